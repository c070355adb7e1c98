// random.h: a small seeded generator (xoshiro256**, Blackman and Vigna 2018) for tests, simulation
// and jitter. Not for secrets. The same seed gives the same numbers on every machine.
#pragma once

#include <array>
#include <cstdint>

namespace clouddisk {

class Random {
 public:
  explicit Random(std::uint64_t seed);

  std::uint64_t next();
  // Uniform in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound);
  // Uniform in [first, last].
  std::uint64_t between(std::uint64_t first, std::uint64_t last) {
    return first + below(last - first + 1);
  }
  bool one_in(std::uint64_t n) { return n != 0 && below(n) == 0; }
  // Uniform in [0, 1).
  double unit();
  // An independent generator whose stream does not depend on later use of this one.
  Random fork() { return Random(next()); }

 private:
  std::array<std::uint64_t, 4> state_;
};

}  // namespace clouddisk
