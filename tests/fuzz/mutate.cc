#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <iterator>

namespace clouddisk::fuzz {
namespace {

std::ptrdiff_t at(std::size_t place) {
  return static_cast<std::ptrdiff_t>(place);
}

void flip_bit(Bytes& input, Random& random) {
  input[random.below(input.size())] ^= static_cast<std::byte>(1U << random.below(8));
}

// What lengths, counts and offsets break at.
std::uint64_t edge(Random& random, std::size_t size) {
  const std::uint64_t power = std::uint64_t{1} << random.below(64);
  switch (random.below(5)) {
    case 0:
      return 0;
    case 1:
      return size;
    case 2:
      return power - 1;
    case 3:
      return power;
    default:
      return ~power;
  }
}

void set_number(Bytes& input, Random& random) {
  const std::size_t width = std::min(input.size(), std::size_t{1} << random.below(4));
  const std::size_t first = random.below(input.size() - width + 1);
  const std::uint64_t value = edge(random, input.size());
  const bool big_endian = random.one_in(2);
  for (std::size_t i = 0; i < width; ++i) {
    const std::size_t place = big_endian ? width - 1 - i : i;
    input[first + place] = static_cast<std::byte>(value >> (8 * i));
  }
}

std::pair<std::size_t, std::size_t> stretch(const Bytes& input, Random& random) {
  const std::size_t most =
      random.one_in(4) ? input.size() : std::min<std::size_t>(input.size(), 64);
  const std::size_t length = random.between(1, most);
  return {random.below(input.size() - length + 1), length};
}

void leave_out(Bytes& input, Random& random) {
  const auto [first, length] = stretch(input, random);
  input.erase(input.begin() + at(first), input.begin() + at(first + length));
}

void insert(Bytes& input, const Bytes& from, Random& random) {
  const auto [first, length] = stretch(from, random);
  const Bytes piece(from.begin() + at(first), from.begin() + at(first + length));
  input.insert(input.begin() + at(random.below(input.size() + 1)), piece.begin(), piece.end());
}

void put_over(Bytes& input, const Bytes& from, Random& random) {
  const auto [first, length] = stretch(from, random);
  const std::size_t place = random.below(input.size());
  const std::size_t fits = std::min(length, input.size() - place);
  std::copy_n(from.begin() + at(first), fits, input.begin() + at(place));
}

}  // namespace

Bytes mutated(const std::vector<Bytes>& inputs, Random& random) {
  Bytes input = inputs[random.below(inputs.size())];
  for (std::uint64_t changes = random.between(1, 6); changes > 0; --changes) {
    const Bytes& other = inputs[random.below(inputs.size())];
    if (input.empty()) {
      input = other;
      if (input.empty()) return input;
    }
    switch (random.below(8)) {
      case 0:
      case 1:
        flip_bit(input, random);
        break;
      case 2:
      case 3:
      case 4:
        set_number(input, random);
        break;
      case 5:
        leave_out(input, random);
        break;
      case 6:
        insert(input, random.one_in(2) || other.empty() ? Bytes(input) : other, random);
        break;
      default:
        if (!other.empty()) put_over(input, other, random);
        break;
    }
  }
  if (input.size() > kInputMax) input.resize(kInputMax);
  return input;
}

}  // namespace clouddisk::fuzz
