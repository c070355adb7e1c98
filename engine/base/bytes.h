// bytes.h: little-endian encoding of on-disk and wire structures, with every length checked.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "engine/base/check.h"

namespace clouddisk {

static_assert(std::endian::native == std::endian::little, "formats are little-endian");

template <std::unsigned_integral T>
T load_le(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <std::unsigned_integral T>
void store_le(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// NBD is big-endian.
template <std::unsigned_integral T>
T byte_swap(T value) {
  if constexpr (sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(value));
  if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(value));
  if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(value));
}
template <std::unsigned_integral T>
T load_be(const std::byte* from) {
  return byte_swap(load_le<T>(from));
}
template <std::unsigned_integral T>
void store_be(std::byte* to, T value) {
  store_le(to, byte_swap(value));
}

// Reads numbers front to back. Past the end it returns zeros and ok() turns false for good, so a
// decoder checks once, after the last field.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> data) : data_(data) {}

  template <std::unsigned_integral T>
  T le() {
    if (!take(sizeof(T))) return 0;
    return load_le<T>(data_.data() + position_ - sizeof(T));
  }
  template <std::unsigned_integral T>
  T be() {
    return byte_swap(le<T>());
  }
  std::span<const std::byte> bytes(std::size_t count) {
    if (!take(count)) return {};
    return data_.subspan(position_ - count, count);
  }
  void skip(std::size_t count) { static_cast<void>(take(count)); }

  bool ok() const { return ok_; }
  std::size_t position() const { return position_; }
  std::size_t remaining() const { return data_.size() - position_; }

 private:
  bool take(std::size_t count) {
    if (!ok_ || count > data_.size() - position_) {
      ok_ = false;
      return false;
    }
    position_ += count;
    return true;
  }

  std::span<const std::byte> data_;
  std::size_t position_ = 0;
  bool ok_ = true;
};

// Writes numbers front to back into memory that the caller has sized; overrun is a bug.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> data) : data_(data) {}

  template <std::unsigned_integral T>
  void le(T value) {
    CHECK(data_.size() - position_ >= sizeof value);
    store_le(data_.data() + position_, value);
    position_ += sizeof value;
  }
  template <std::unsigned_integral T>
  void be(T value) {
    le(byte_swap(value));
  }
  void bytes(std::span<const std::byte> from) {
    CHECK(data_.size() - position_ >= from.size());
    if (!from.empty()) std::memcpy(data_.data() + position_, from.data(), from.size());
    position_ += from.size();
  }
  void zeros(std::size_t count) {
    CHECK(data_.size() - position_ >= count);
    std::memset(data_.data() + position_, 0, count);
    position_ += count;
  }
  std::size_t position() const { return position_; }

 private:
  std::span<std::byte> data_;
  std::size_t position_ = 0;
};

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace clouddisk
