// fuzz_target.h: what a fuzz target is: a function that takes any bytes and must come back. One
// program holds all of them; the variable FUZZ_TARGET or an argument chooses. Built two ways: with
// libFuzzer (preset "fuzz") it looks for new inputs, otherwise replay_main.cc runs those it is
// given. docs/fuzzing.md tells how to use both.
//
// A target says what must hold with CHECK, which ends the process. It keeps no state between
// inputs, so that an input that fails does so alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

namespace clouddisk::fuzz {

using Input = std::span<const std::byte>;
using Target = void (*)(Input input);

// By name. Filled before main().
std::map<std::string_view, Target>& targets();

struct Registration {
  Registration(std::string_view name, Target target) { targets()[name] = target; }
};

#define FUZZ_TARGET(name)                                          \
  static void fuzz_##name(Input input);                            \
  static const Registration registered_##name(#name, fuzz_##name); \
  static void fuzz_##name([[maybe_unused]] Input input)

// Longer inputs say nothing that shorter ones don't, and take longer.
inline constexpr std::size_t kInputMax = 64 * 1024;

// Takes an input apart, front to back; past the end everything is zero or empty.
class Feed {
 public:
  explicit Feed(Input input) : rest_(input) {}
  std::uint8_t byte() {
    const Input one = bytes(1);
    return one.empty() ? std::uint8_t{0} : std::to_integer<std::uint8_t>(one[0]);
  }
  std::uint16_t word() {
    const unsigned low = byte();
    return static_cast<std::uint16_t>(low | static_cast<unsigned>(byte()) << 8U);
  }
  // As many as there are, at most `count`.
  Input bytes(std::size_t count) {
    const Input taken = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  Input rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  Input rest_;
};

// `data` and zeros behind it: `size` bytes.
inline std::vector<std::byte> padded(Input data, std::size_t size) {
  std::vector<std::byte> block(data.begin(), data.end());
  block.resize(size);
  return block;
}

}  // namespace clouddisk::fuzz
