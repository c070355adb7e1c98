#include "engine/disk/disk.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <vector>

#include "engine/base/random.h"
#include "tests/engine/disk/disk_fixture.h"
#include "tests/support/bytes.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

namespace fs = std::filesystem;

// A disk over real files, with restarts.
class DiskTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kSize = 64_MiB;

  void SetUp() override {
    auto ring = UringRing::create({});
    ASSERT_TRUE(ring) << ring.error().message;
    ring_ = std::move(*ring);
    start();
    ASSERT_FALSE(machine_->error) << machine_->error->message;
    auto made = ring_->block_on(Disk::create(*machine_->environment, identity(), options_));
    ASSERT_TRUE(made) << made.error().message;
    open();
  }
  void TearDown() override {
    if (disk_) stop();
  }

  Disk::Identity identity() const { return identity_in(root_.path(), size_); }
  void start() {
    machine_ = std::make_unique<Machine>(*ring_, root_.path(), std::nullopt, read_cache_bytes_);
  }
  void open() {
    auto opened = ring_->block_on(Disk::open(*machine_->environment, identity(), options_));
    ASSERT_TRUE(opened) << opened.error().message;
    disk_ = *opened;
  }
  void stop() {
    auto closed = ring_->block_on(disk_->close());
    EXPECT_TRUE(closed) << closed.error().message;
    disk_.reset();
    machine_.reset();
  }
  void restart() {
    stop();
    start();
    ASSERT_FALSE(machine_->error) << machine_->error->message;
    open();
  }

  Result<void> write(std::uint64_t offset, const std::vector<std::byte>& data, bool fua = false) {
    Buffer buffer = ring_->block_on(machine_->client_buffers.allocate(data.size()));
    std::memcpy(buffer.data(), data.data(), data.size());
    return ring_->block_on(disk_->write(offset, std::move(buffer), fua));
  }
  std::vector<std::byte> read(std::uint64_t offset, std::uint32_t length) {
    auto data = ring_->block_on(disk_->read(offset, length));
    EXPECT_TRUE(data) << data.error().message;
    if (!data) return {};
    return {data->span().begin(), data->span().end()};
  }
  static std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
    return random_bytes(size, seed);
  }
  fs::path replica(unsigned number) const {
    return fs::path(root_.path()) / ("replica-" + std::to_string(number));
  }

  TemporaryFolder root_;
  std::uint64_t size_ = kSize;
  Disk::Options options_;
  std::size_t read_cache_bytes_ = 0;
  std::unique_ptr<UringRing> ring_;
  std::unique_ptr<Machine> machine_;
  std::shared_ptr<Disk> disk_;
};

TEST_F(DiskTest, NewDiskReadsAsZeros) {
  EXPECT_EQ(read(0, 64_KiB), std::vector<std::byte>(64_KiB));
  EXPECT_EQ(read(kSize - 512, 512), std::vector<std::byte>(512));
}

TEST_F(DiskTest, AnIndexIsMadeWhenItsDiskIsFirstWrittenTo) {
  ASSERT_TRUE(write(0, pattern(4096, 1)));
  const fs::path indexes = fs::path(root_.path()) / "index";
  Disk::Identity other = identity();
  other.id = "d-other";
  other.index_directory = indexes / "d-other";
  // Of a former disk of that name.
  fs::create_directories(indexes);
  fs::copy(identity().index_directory, other.index_directory);
  auto made = ring_->block_on(Disk::create(*machine_->environment, other, options_));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_FALSE(fs::exists(other.index_directory));
  for (int life = 0; life < 3; ++life) {
    auto opened = ring_->block_on(Disk::open(*machine_->environment, other, options_));
    ASSERT_TRUE(opened) << opened.error().message;
    Disk& disk = **opened;
    EXPECT_EQ(fs::exists(indexes / "d-other/data.mdb"), life == 2) << life;
    if (life == 1) {
      Buffer block = ring_->block_on(machine_->client_buffers.allocate(4096));
      ASSERT_TRUE(ring_->block_on(disk.write(0, std::move(block), false)));
      EXPECT_TRUE(fs::exists(indexes / "d-other/data.mdb")) << "before any checkpoint";
    }
    EXPECT_TRUE(ring_->block_on(disk.close()));
    opened = Result<std::shared_ptr<Disk>>(nullptr);
  }
}

TEST_F(DiskTest, WritesOfAnyAlignmentReadBack) {
  struct Case {
    const char* name;
    std::uint64_t offset;
    std::size_t length;
  };
  for (const Case& c : {Case{"a block", 4096, 4096},
                        {"a sector", 512, 512},
                        {"across a block edge", 4000, 200},
                        {"ragged both ends", 12345, 70001},
                        {"a megabyte", 1_MiB, 1_MiB},
                        {"unaligned megabyte", 3_MiB + 512, 1_MiB},
                        {"one byte", 5_MiB + 7, 1},
                        {"the last byte", kSize - 1, 1}}) {
    const auto data = pattern(c.length, c.offset + c.length);
    ASSERT_TRUE(write(c.offset, data)) << c.name;
    EXPECT_EQ(read(c.offset, static_cast<std::uint32_t>(c.length)), data) << c.name;
  }
}

TEST_F(DiskTest, PartialWriteKeepsTheRestOfItsBlock) {
  const auto block = pattern(4096, 1);
  ASSERT_TRUE(write(8192, block));
  ASSERT_TRUE(write(8192 + 100, pattern(50, 2)));
  auto expected = block;
  const auto part = pattern(50, 2);
  std::copy(part.begin(), part.end(), expected.begin() + 100);
  EXPECT_EQ(read(8192, 4096), expected);
}

TEST_F(DiskTest, ContentSurvivesARestartAndTheLossOfTheIndex) {
  const auto data = pattern(300'000, 3);
  ASSERT_TRUE(write(1000, data));
  restart();
  EXPECT_EQ(read(1000, 300'000), data);
  stop();
  fs::remove_all(fs::path(root_.path()) / "index");
  start();
  open();
  EXPECT_EQ(read(1000, 300'000), data);
}

// What its footer says is enough: the damage of one block must not grow to a segment's.
TEST_F(DiskTest, TheIndexIsMadeAnewThoughASealedSegmentsHeaderIsDamagedEverywhere) {
  // The first segment has 55 MiB that stay; the last MiB goes on into the next ones.
  for (unsigned i = 0; i < 55; ++i) ASSERT_TRUE(write(i * 1_MiB, pattern(1_MiB, i)));
  for (unsigned i = 0; i < 100; ++i) ASSERT_TRUE(write(60_MiB, pattern(1_MiB, 100 + i), true));
  stop();
  fs::remove_all(fs::path(root_.path()) / "index");
  for (unsigned copy = 1; copy <= kReplicaCount; ++copy) {
    const auto folder =
        fs::path(root_.path()) / fmt::format("replica-{}", copy) / "disks" / identity().id;
    std::fstream segment(folder / "segment-0000000000000001",
                         std::ios::in | std::ios::out | std::ios::binary);
    ASSERT_TRUE(segment);
    segment.seekp(100);
    segment.put('!');
  }
  start();
  open();
  for (unsigned i = 0; i < 55; ++i) ASSERT_EQ(read(i * 1_MiB, 1_MiB), pattern(1_MiB, i)) << i;
  EXPECT_EQ(read(60_MiB, 1_MiB), pattern(1_MiB, 199));
}

TEST_F(DiskTest, TrimAndZeroReadAsZerosAndShowInTheExtents) {
  ASSERT_TRUE(write(0, pattern(1_MiB, 4)));
  ASSERT_TRUE(ring_->block_on(disk_->trim(64_KiB, 64_KiB, false)));
  ZeroOptions keep;
  keep.no_hole = true;
  ASSERT_TRUE(ring_->block_on(disk_->write_zeroes(256_KiB, 64_KiB, keep)));
  EXPECT_EQ(read(64_KiB, 64_KiB), std::vector<std::byte>(64_KiB));
  EXPECT_EQ(read(256_KiB, 64_KiB), std::vector<std::byte>(64_KiB));
  auto extents = ring_->block_on(disk_->extents(0, kSize, 100));
  ASSERT_TRUE(extents);
  const std::vector<std::pair<std::uint64_t, ExtentState>> expected = {
      {64_KiB, ExtentState::kData},  {64_KiB, ExtentState::kHole},
      {128_KiB, ExtentState::kData}, {64_KiB, ExtentState::kZero},
      {704_KiB, ExtentState::kData}, {kSize - 1_MiB, ExtentState::kHole}};
  ASSERT_EQ(extents->size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ((*extents)[i].length, expected[i].first) << i;
    EXPECT_EQ((*extents)[i].state, expected[i].second) << i;
  }
}

TEST_F(DiskTest, FlippedBytesOnOneOrTwoCopiesAreReadFromTheThirdAndRepaired) {
  const auto data = pattern(256_KiB, 5);
  ASSERT_TRUE(write(0, data, true));
  for (const unsigned number : {1U, 2U}) {
    for (const auto& entry : fs::recursive_directory_iterator(replica(number) / "disks")) {
      if (!entry.is_regular_file()) continue;
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      for (std::uint64_t at = 8192; at < 8192 + 256_KiB; at += 1000) {
        file.seekp(static_cast<std::streamoff>(at));
        file.put('\x5a');
      }
    }
  }
  EXPECT_EQ(read(0, 256_KiB), data);
  EXPECT_GT(disk_->usage().reads.checksum_errors, 0U);
  // Each copy is whole again: every block now reads without an error, whichever copy is asked.
  const auto errors = disk_->usage().reads.checksum_errors;
  EXPECT_EQ(read(0, 256_KiB), data);
  EXPECT_EQ(disk_->usage().reads.checksum_errors, errors);
}

TEST_F(DiskTest, AllCopiesDamagedIsAnErrorForThoseBlocksAlone) {
  ASSERT_TRUE(write(0, pattern(64_KiB, 6), true));
  for (const unsigned number : {1U, 2U, 3U}) {
    for (const auto& entry : fs::recursive_directory_iterator(replica(number) / "disks")) {
      if (!entry.is_regular_file()) continue;
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(8192 + 100);
      file.put('\x5a');
    }
  }
  auto lost = ring_->block_on(disk_->read(0, 4096));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, Errc::kIo);
  const auto expected = pattern(64_KiB, 6);
  EXPECT_EQ(read(4096, 60 * 1024), std::vector<std::byte>(expected.begin() + 4096, expected.end()));
}

// The log's own marks of what is durable lag behind; the checkpoint of a clean stop does not.
TEST_F(DiskTest, ADamagedBlockBeforeTheCheckpointIsNotTheEndOfTheLog) {
  constexpr std::size_t kPart = 64_KiB;
  constexpr std::size_t kParts = 40;
  for (std::size_t i = 0; i < kParts; ++i) ASSERT_TRUE(write(i * kPart, pattern(kPart, i)));
  stop();
  const auto wanted = pattern(kPart, 3);
  unsigned damaged = 0;
  for (unsigned copy = 1; copy <= 3; ++copy) {
    for (const auto& entry : fs::recursive_directory_iterator(replica(copy) / "disks")) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      std::vector<char> bytes(8_MiB);
      in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      const auto at =
          std::search(bytes.begin(), bytes.end(), reinterpret_cast<const char*>(wanted.data()),
                      reinterpret_cast<const char*>(wanted.data()) + kBlockSize);
      if (at == bytes.end()) continue;
      std::fstream out(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
      out.seekp(at - bytes.begin() + 100);
      out.write("rotten", 6);
      ++damaged;
    }
  }
  ASSERT_EQ(damaged, 3U);
  start();
  open();
  for (std::size_t i = 0; i < kParts; ++i) {
    if (i == 3) continue;
    EXPECT_EQ(read(i * kPart, kPart), pattern(kPart, i)) << i;
  }
  auto lost = ring_->block_on(disk_->read(3 * kPart, kBlockSize));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, Errc::kIo);
  EXPECT_EQ(read(3 * kPart + kBlockSize, kPart - kBlockSize).size(), kPart - kBlockSize);
}

TEST_F(DiskTest, WritesGoOnWithoutALostFolderAndItIsLeftOutAtTheNextStart) {
  ASSERT_TRUE(write(0, pattern(4096, 7)));
  fs::remove_all(replica(2));
  ring_->block_on(machine_->replicas->check_folders());
  EXPECT_EQ(machine_->replicas->in_sync_mask(), 0b101U);
  const auto data = pattern(1_MiB, 8);
  ASSERT_TRUE(write(1_MiB, data, true));
  restart();
  EXPECT_EQ(machine_->replicas->in_sync_mask(), 0b101U);
  EXPECT_EQ(machine_->replicas->to_rebuild(), 0b010U);
  EXPECT_EQ(read(1_MiB, 1_MiB), data);
}

TEST_F(DiskTest, WithOneReplicaLeftItReadsAndRefusesToWrite) {
  const auto data = pattern(4096, 9);
  ASSERT_TRUE(write(0, data, true));
  fs::remove_all(replica(1));
  fs::remove_all(replica(3));
  ring_->block_on(machine_->replicas->check_folders());
  EXPECT_EQ(read(0, 4096), data);
  auto refused = write(4096, data);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kReplicasLost);
  EXPECT_EQ(read(0, 4096), data);
  static_cast<void>(ring_->block_on(disk_->close()));
  disk_.reset();
}

TEST_F(DiskTest, OverwrittenForEverItKeepsToItsBoundAndItsContent) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  constexpr std::size_t kPiece = 256_KiB;
  std::vector<std::uint64_t> model(kSize / kPiece, 0);  // seed of each piece's content; 0: trimmed
  std::uint64_t bound_broken = 0;
  for (std::uint64_t step = 1; step <= 9500; ++step) {  // 2.2 GiB on a disk of 64 MiB
    // First all of it, then all but a cold quarter, which has to be moved out of the way.
    const std::uint64_t piece =
        step <= model.size() ? step - 1 : random.below(model.size() * 3 / 4);
    if (step > model.size() && random.one_in(20)) {
      ASSERT_TRUE(ring_->block_on(disk_->trim(piece * kPiece, kPiece, false)));
      model[piece] = 0;
      continue;
    }
    ASSERT_TRUE(write(piece * kPiece, pattern(kPiece, step)));
    model[piece] = step;
    const auto stored = disk_->usage().stored_bytes;
    if (stored > kSize * 3 / 2 + 1_GiB + 12 * kSegmentSize) ++bound_broken;
  }
  EXPECT_EQ(bound_broken, 0U);
  EXPECT_GT(disk_->usage().compacted_bytes, 0U);
  const auto check = [&](const char* when) {
    for (std::uint64_t piece = 0; piece < model.size(); ++piece) {
      const auto expected =
          model[piece] == 0 ? std::vector<std::byte>(kPiece) : pattern(kPiece, model[piece]);
      ASSERT_TRUE(same_bytes(read(piece * kPiece, kPiece), expected)) << when << " piece " << piece;
    }
  };
  check("while it runs");
  restart();
  check("after a restart");
  stop();
  fs::remove_all(fs::path(root_.path()) / "index");
  start();
  open();
  check("after the index was lost");
}

TEST_F(DiskTest, WhatWasReadLatelyComesFromMemoryUntilItChanges) {
  read_cache_bytes_ = 4_MiB;
  restart();
  const auto first = pattern(64_KiB, 1);
  ASSERT_TRUE(write(0, first));
  EXPECT_EQ(read(0, 64_KiB), first);
  EXPECT_EQ(machine_->reads.counters().hits, 0U);
  EXPECT_EQ(read(0, 64_KiB), first);
  EXPECT_EQ(machine_->reads.counters().hits, 16U);
  const auto inner = read(5000, 100);
  EXPECT_TRUE(std::equal(inner.begin(), inner.end(), first.begin() + 5000));
  EXPECT_EQ(machine_->reads.counters().hits, 17U);
  const auto second = pattern(4_KiB, 2);
  ASSERT_TRUE(write(4_KiB, second));
  EXPECT_EQ(read(4_KiB, 4_KiB), second);
  ASSERT_TRUE(ring_->block_on(disk_->trim(8_KiB, 4_KiB, false)));
  EXPECT_EQ(read(8_KiB, 4_KiB), std::vector<std::byte>(4_KiB));
  // Long ones go past it, both ways.
  const auto counted = machine_->reads.counters();
  EXPECT_EQ(read(0, 128_KiB).size(), 128_KiB);
  EXPECT_EQ(read(0, 128_KiB).size(), 128_KiB);
  EXPECT_EQ(machine_->reads.counters().hits, counted.hits);
  EXPECT_EQ(machine_->reads.counters().misses, counted.misses);
}

TEST_F(DiskTest, AWriteThatBeginsAtOnceNeedsItsPayloadNoLonger) {
  const auto first = pattern(64_KiB, 1);
  auto payload = first;
  auto begun = disk_->write_now(8_KiB, payload, true);
  ASSERT_TRUE(begun);
  std::fill(payload.begin(), payload.end(), std::byte{0xee});
  ASSERT_TRUE(ring_->block_on(std::move(*begun)));
  EXPECT_EQ(read(8_KiB, 64_KiB), first);
  restart();
  EXPECT_EQ(read(8_KiB, 64_KiB), first);
  // What has to be read first, referenced or refused is write()'s.
  EXPECT_FALSE(disk_->write_now(512, std::span(payload).first(4_KiB), false));
  EXPECT_FALSE(disk_->write_now(0, std::span(payload).first(512), false));
  EXPECT_FALSE(disk_->write_now(0, pattern(68_KiB, 2), false));
  EXPECT_FALSE(disk_->write_now(kSize - 4_KiB, std::span(payload).first(8_KiB), false));
  EXPECT_FALSE(disk_->write_now(kSize, std::span(payload).first(4_KiB), false));
  EXPECT_FALSE(disk_->write_now(~std::uint64_t{0} - 4095, std::span(payload).first(4_KiB), false));
  EXPECT_EQ(read(8_KiB, 64_KiB), first);
}

// A partial write keeps what the block held: one that comes at once may neither pass it nor be lost
// to it.
TEST_F(DiskTest, WritesThatBeginAtOnceKeepApartFromPartialOnes) {
  const auto whole = pattern(4_KiB, 1);
  const auto part = pattern(512, 2);
  const auto write_part = [this](std::vector<std::byte> data) -> Task<Result<void>> {
    Buffer buffer = co_await machine_->client_buffers.allocate(data.size());
    std::memcpy(buffer.data(), data.data(), data.size());
    co_return co_await disk_->write(1024, std::move(buffer), false);
  };
  const auto later = [](Task<Result<void>> task, WaitGroup& group) -> Task<void> {
    EXPECT_TRUE(co_await std::move(task));
    group.done();
  };
  const auto both = [&]() -> Task<int> {
    WaitGroup writes(*ring_);
    auto begun = disk_->write_now(0, whole, false);
    if (!begun) co_return 1;
    writes.add(2);
    spawn(later(std::move(*begun), writes));
    spawn(later(write_part(part), writes));
    if (disk_->write_now(0, whole, false)) co_return 2;  // The part is under way.
    co_await writes.wait();
    co_return 0;
  };
  EXPECT_EQ(ring_->block_on(both()), 0);
  auto expected = whole;
  std::copy(part.begin(), part.end(), expected.begin() + 1024);
  EXPECT_EQ(read(0, 4_KiB), expected);
}

// Random requests against an array, with restarts and lost indexes in between.
TEST_F(DiskTest, BehavesLikeAnArray) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::vector<std::byte> model(kSize);
  read_cache_bytes_ = 1_MiB;
  restart();
  for (int step = 0; step < 1500; ++step) {
    const std::uint64_t kind = random.below(100);
    const bool aligned = random.one_in(2);
    const std::uint64_t unit = aligned ? 4096 : 1;
    std::uint64_t length = random.one_in(10) ? random.between(1, 1_MiB) : random.between(1, 64_KiB);
    length = std::max(unit, length / unit * unit);
    const std::uint64_t offset = random.below((kSize - length) / unit + 1) * unit;
    if (kind < 55) {
      const auto data = pattern(length, random.next());
      const bool fua = random.one_in(20);
      std::optional<Task<Result<void>>> begun;
      if (random.one_in(2)) begun = disk_->write_now(offset, data, fua);
      ASSERT_TRUE(begun ? ring_->block_on(std::move(*begun)) : write(offset, data, fua));
      std::copy(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(offset));
    } else if (kind < 85) {
      const auto data = read(offset, static_cast<std::uint32_t>(length));
      ASSERT_TRUE(
          std::equal(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(offset)))
          << "step " << step << " offset " << offset << " length " << length;
    } else if (kind < 95) {
      const std::uint64_t wide = std::min(kSize - offset, length * (random.one_in(3) ? 20 : 1));
      ASSERT_TRUE(random.one_in(2) ? ring_->block_on(disk_->trim(offset, wide, false))
                                   : ring_->block_on(disk_->write_zeroes(offset, wide, {})));
      std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(offset), wide, std::byte{0});
    } else if (kind < 97) {
      ASSERT_TRUE(ring_->block_on(disk_->checkpoint()));
    } else if (kind < 99) {
      read_cache_bytes_ = random.one_in(2) ? 0 : 1_MiB;
      restart();
    } else {
      stop();
      fs::remove_all(fs::path(root_.path()) / "index");
      start();
      open();
    }
  }
  for (std::uint64_t at = 0; at < kSize; at += 1_MiB) {
    const auto data = read(at, static_cast<std::uint32_t>(1_MiB));
    ASSERT_TRUE(
        std::equal(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(at)))
        << at;
  }
}

}  // namespace
}  // namespace clouddisk
