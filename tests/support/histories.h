// histories.h: how long the random models go on. One history each, in the suite; with
// MODEL_SECONDS=3600 in the environment as many as begin within that time, each with a seed of its
// own, printed (seed.h). SEED=7719 replays one.
#pragma once

#include <gtest/gtest.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace clouddisk {

inline std::chrono::seconds model_seconds() {
  const char* wanted = std::getenv("MODEL_SECONDS");
  if (wanted == nullptr || std::getenv("SEED") != nullptr) return std::chrono::seconds(0);
  const std::string_view text(wanted);
  unsigned seconds = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) {
    std::fprintf(stderr, "MODEL_SECONDS='%s' is not a number\n", wanted);
    std::abort();
  }
  return std::chrono::seconds(seconds);
}

// `history` announces its seed. The first that fails is the last.
template <class History>
void run_histories(History history) {
  const auto end = std::chrono::steady_clock::now() + model_seconds();
  do {
    history();
  } while (!testing::Test::HasFailure() && std::chrono::steady_clock::now() < end);
}

}  // namespace clouddisk
