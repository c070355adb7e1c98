// sim_support.h: short forms for tests of the simulator: blocking calls on small, buffered files.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/ring/sim_ring.h"

namespace clouddisk {

using Bytes = std::vector<std::byte>;

inline Bytes filled(std::size_t size, unsigned value) {
  return Bytes(size, static_cast<std::byte>(value));
}

inline Task<std::int32_t> write_at(Ring& ring, const File& file, std::uint64_t offset, Bytes data) {
  const iovec piece{data.data(), data.size()};
  co_return co_await ring.write(file, offset, std::span(&piece, 1));
}
inline Task<std::int32_t> read_at(Ring& ring, const File& file, std::uint64_t offset,
                                  std::span<std::byte> into) {
  co_return co_await ring.read(file, offset, into);
}
inline Task<std::int32_t> sync_file(Ring& ring, const File& file) {
  co_return co_await ring.datasync(file);
}
inline Task<std::int32_t> allocate_file(Ring& ring, const File& file, std::uint64_t length) {
  co_return co_await ring.allocate(file, 0, length);
}

// A process on a machine. File handles it gave out belong to it: drop them before kill(), or keep
// them in `abandoned`.
struct Process {
  explicit Process(SimMachine& machine, SimRing::Options options = {})
      : machine(machine), ring(std::make_unique<SimRing>(machine, options)) {}

  Result<File> try_open(const std::string& path, bool create = true) {
    OpenOptions how;
    how.create = create;
    how.direct = false;
    return ring->block_on(ring->open(path, how));
  }
  File open(const std::string& path) {
    auto file = try_open(path);
    EXPECT_TRUE(file) << path;
    return file ? std::move(*file) : File();
  }
  std::int32_t write(const File& file, std::uint64_t offset, Bytes data) {
    return ring->block_on(write_at(*ring, file, offset, std::move(data)));
  }
  Bytes read(const File& file, std::uint64_t offset, std::size_t size) {
    Bytes data(size);
    const std::int32_t count = ring->block_on(read_at(*ring, file, offset, data));
    EXPECT_GE(count, 0);
    data.resize(static_cast<std::size_t>(std::max(count, 0)));
    return data;
  }
  std::int32_t sync(const File& file) { return ring->block_on(sync_file(*ring, file)); }
  std::int32_t allocate(const File& file, std::uint64_t length) {
    return ring->block_on(allocate_file(*ring, file, length));
  }
  // A file with durable content and a durable name.
  void make_durable(const std::string& folder, const std::string& name, const Bytes& data) {
    EXPECT_TRUE(ring->block_on(ring->make_directories(folder)));
    const File file = open(folder + "/" + name);
    EXPECT_EQ(write(file, 0, data), static_cast<std::int32_t>(data.size()));
    EXPECT_EQ(sync(file), 0);
    EXPECT_TRUE(ring->block_on(ring->sync_directory(folder)));
    EXPECT_TRUE(ring->block_on(ring->sync_directory("/")));
  }
  void kill() { ring.reset(); }

  SimMachine& machine;
  std::unique_ptr<SimRing> ring;
};

// A file handle of a dead process must not be closed through its ring.
inline void abandon(File file) {
  Graveyard::bury(std::make_unique<File>(std::move(file)));
}

}  // namespace clouddisk
