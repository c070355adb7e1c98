// seed.h: the one seed of a property test. SEED=7719 in the environment replays the run that
// printed 7719; otherwise every run takes a new one.
#pragma once

#include <gtest/gtest.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

namespace clouddisk {

// Call it first in a test: a failed CHECK ends the process, and the seed must be on the screen by
// then. The seed is also in the test's XML report.
inline std::uint64_t announce_seed() {
  std::uint64_t seed = 0;
  const char* wanted = std::getenv("SEED");
  if (wanted != nullptr) {
    const std::string_view text(wanted);
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), seed);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) {
      std::fprintf(stderr, "SEED='%s' is not a number\n", wanted);
      std::abort();
    }
  } else {
    std::random_device device;
    seed = device();  // 32 bits: short enough to retype.
  }
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::fprintf(stderr, "SEED=%llu %s.%s\n", static_cast<unsigned long long>(seed),
               test != nullptr ? test->test_suite_name() : "?",
               test != nullptr ? test->name() : "?");
  std::fflush(stderr);
  testing::Test::RecordProperty("seed", std::to_string(seed));
  return seed;
}

}  // namespace clouddisk
