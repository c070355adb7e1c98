// ring_ops.h: file operations as plain calls that run the ring until they are done, for tests that
// go one step at a time; and asserts for coroutines.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "engine/ring/ring.h"
#include "tests/support/bytes.h"

namespace clouddisk {

// gtest's ASSERT_* return, which a coroutine can't.
#define CO_ASSERT_TRUE(condition)                          \
  do {                                                     \
    if (!(condition)) {                                    \
      ADD_FAILURE() << "expected to be true: " #condition; \
      co_return;                                           \
    }                                                      \
  } while (false)

// "ok", or the code and the message.
template <class T>
std::string outcome(const Result<T>& result) {
  if (result) return "ok";
  return std::string(name(result.error().code)) + ": " + result.error().message;
}
#define EXPECT_OK(result) EXPECT_EQ(::clouddisk::outcome(result), "ok")
#define ASSERT_OK(result) ASSERT_EQ(::clouddisk::outcome(result), "ok")

// Memory that direct I/O accepts.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::size_t size, std::byte fill = std::byte{0})
      : memory_(static_cast<std::byte*>(std::aligned_alloc(4096, align_up(size, 4096)))),
        size_(size) {
    std::memset(memory_.get(), static_cast<int>(fill), size);
  }
  AlignedBytes(std::size_t size, Random& random) : AlignedBytes(size) {
    fill_at_random(span(), random);
  }
  std::byte* data() const { return memory_.get(); }
  std::size_t size() const { return size_; }
  std::span<std::byte> span() const { return {memory_.get(), size_}; }
  bool operator==(const AlignedBytes& other) const {
    return size_ == other.size_ && std::memcmp(data(), other.data(), size_) == 0;
  }
  bool all(std::byte value) const {
    for (const std::byte b : span()) {
      if (b != value) return false;
    }
    return true;
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t size_;
};

inline Task<std::int32_t> write_task(Ring& ring, const File& file, std::uint64_t offset,
                                     std::span<const std::byte> data) {
  const iovec piece{const_cast<std::byte*>(data.data()), data.size()};
  const std::span<const iovec> pieces(&piece, 1);
  co_return co_await ring.write(file, offset, pieces);
}
inline Task<std::int32_t> read_task(Ring& ring, const File& file, std::uint64_t offset,
                                    std::span<std::byte> into) {
  co_return co_await ring.read(file, offset, into);
}
inline Task<std::int32_t> datasync_task(Ring& ring, const File& file) {
  co_return co_await ring.datasync(file);
}
inline Task<std::int32_t> allocate_task(Ring& ring, const File& file, std::uint64_t offset,
                                        std::uint64_t length) {
  co_return co_await ring.allocate(file, offset, length);
}
inline Task<void> sleep_task(Ring& ring, Duration duration) {
  co_await ring.sleep_for(duration);
}

inline std::int32_t write_at(Ring& ring, const File& file, std::uint64_t offset,
                             std::span<const std::byte> data) {
  return ring.block_on(write_task(ring, file, offset, data));
}
inline std::int32_t read_at(Ring& ring, const File& file, std::uint64_t offset,
                            std::span<std::byte> into) {
  return ring.block_on(read_task(ring, file, offset, into));
}
inline std::int32_t datasync(Ring& ring, const File& file) {
  return ring.block_on(datasync_task(ring, file));
}
inline std::int32_t allocate(Ring& ring, const File& file, std::uint64_t offset,
                             std::uint64_t length) {
  return ring.block_on(allocate_task(ring, file, offset, length));
}
inline void sleep_for(Ring& ring, Duration duration) {
  ring.block_on(sleep_task(ring, duration));
}

// Opens for reading and writing, made if missing; the test fails if that can't be.
inline File open_file(Ring& ring, const std::string& path) {
  auto file = ring.block_on(ring.open(path, OpenOptions{.create = true}));
  EXPECT_OK(file);
  return file ? *std::move(file) : File();
}

}  // namespace clouddisk
