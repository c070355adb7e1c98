#include "engine/ring/sim_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kSector = SimFile::kSector;
constexpr std::uint64_t kSectors = 300;  // a little more than two chunks

std::byte byte_at(const SimFile& file, std::uint64_t offset) {
  std::byte value{};
  EXPECT_EQ(file.read(offset, {&value, 1}), 1U);
  return value;
}

// The chunks that the next files get are full of it.
void leave_rubbish() {
  Random random(1);
  SimFile file;
  file.write(0, std::vector<std::byte>(8 * SimFile::kChunk, std::byte{0xee}), random);
}

// One byte stands for a sector. The medium may hold any version since the last one that a sync
// covered; a failed sync stops owing what it covered, but may not take away what is readable.
struct SectorModel {
  struct Version {
    std::uint64_t time;
    std::byte value;
  };
  std::vector<Version> possible{{0, std::byte{0}}};  // on the medium; the last one is readable
  std::uint64_t given_up = 0;                        // versions up to this one are not owed

  void write(std::uint64_t time, std::byte value) { possible.push_back({time, value}); }
  void synced(std::uint64_t until) {
    std::size_t covered = 0;
    while (covered + 1 < possible.size() && possible[covered + 1].time <= until) ++covered;
    if (possible[covered].time <= given_up) return;
    possible.erase(possible.begin(), possible.begin() + static_cast<std::ptrdiff_t>(covered));
  }
  void failed(std::uint64_t until) {
    for (const Version& version : possible) {
      if (version.time <= until) given_up = std::max(given_up, version.time);
    }
  }
  bool allows(std::byte value) const {
    return std::ranges::any_of(possible, [&](const Version& v) { return v.value == value; });
  }
};

TEST(SimFileModel, AfterPowerLossEachSectorHoldsAVersionThatNoSyncHadReplaced) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  for (int life = 0; life < 300; ++life) {
    leave_rubbish();
    SimFile file;
    std::vector<SectorModel> model(kSectors);
    std::vector<std::byte> zeros(kSectors * kSector);
    file.write(0, zeros, random);
    const SimFile::Sync whole = file.begin_sync();
    file.finish_sync(whole);
    std::uint64_t time = 1;
    std::vector<std::pair<SimFile::Sync, std::uint64_t>> syncs;  // and when each began
    const std::uint64_t steps = random.below(60);
    for (std::uint64_t step = 0; step < steps; ++step) {
      const std::uint64_t dice = random.below(10);
      if (dice < 6) {
        const std::uint64_t first = random.below(kSectors);
        const std::uint64_t count =
            random.between(1, std::min<std::uint64_t>(40, kSectors - first));
        const auto value = static_cast<std::byte>(random.next());
        file.write(first * kSector, std::vector<std::byte>(count * kSector, value), random);
        for (std::uint64_t s = first; s < first + count; ++s) model[s].write(time, value);
      } else if (dice < 8) {
        syncs.emplace_back(file.begin_sync(), time);
      } else if (!syncs.empty()) {
        const std::size_t which = random.below(syncs.size());
        const auto [sync, began] = syncs[which];
        syncs.erase(syncs.begin() + static_cast<std::ptrdiff_t>(which));
        const bool works = random.below(4) != 0;
        if (works) {
          file.finish_sync(sync);
        } else {
          file.fail_sync(sync, random);
        }
        for (SectorModel& sector : model) {
          if (works) {
            sector.synced(began);
          } else {
            sector.failed(began);
          }
        }
      }
      ++time;
      const std::uint64_t probe = random.below(kSectors);
      ASSERT_EQ(byte_at(file, probe * kSector), model[probe].possible.back().value);
    }
    for (std::size_t i = 0; i < syncs.size(); ++i) file.abandon_sync();
    file.power_loss(random, random.below(101));
    ASSERT_EQ(file.size(), kSectors * kSector);
    for (std::uint64_t s = 0; s < kSectors; ++s) {
      const std::byte value = byte_at(file, s * kSector);
      ASSERT_TRUE(model[s].allows(value)) << "life " << life << " sector " << s;
      ASSERT_EQ(byte_at(file, s * kSector + kSector - 1), value) << "a sector is whole";
    }
  }
}

// In memory that other files had: what was not written is zeros all the same.
TEST(SimFile, ReadsWhatWasWrittenAndZerosWithAndWithoutAMedium) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  for (int life = 0; life < 40; ++life) {
    leave_rubbish();
    SimFile file;
    if (life % 2 == 0) file.forget_medium();
    std::vector<std::byte> model;
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t at = random.below(4 * SimFile::kChunk);
      std::vector<std::byte> data(1 + random.below(random.one_in(8) ? 100'000 : 2000));
      for (std::byte& byte : data) byte = static_cast<std::byte>(random.next());
      file.write(at, data, random);
      if (model.size() < at + data.size()) model.resize(at + data.size());
      std::copy(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(at));
      if (random.one_in(5)) file.finish_sync(file.begin_sync());
      const std::uint64_t from = random.below(model.size());
      std::vector<std::byte> read(1 + random.below(model.size() - from), std::byte{0xaa});
      ASSERT_EQ(file.read(from, read), read.size());
      ASSERT_TRUE(
          std::equal(read.begin(), read.end(), model.begin() + static_cast<std::ptrdiff_t>(from)));
    }
    ASSERT_EQ(file.size(), model.size());
    if (life % 2 == 0) {
      ASSERT_FALSE(file.has_unsynced()) << "everything is durable at once";
    }
  }
}

TEST(SimFile, PowerLossMixesSectorsOfOneWrite) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  int mixed = 0;
  for (int life = 0; life < 50; ++life) {
    SimFile file;
    file.write(0, std::vector<std::byte>(64 * kSector, std::byte{1}), random);
    file.finish_sync(file.begin_sync());
    file.write(0, std::vector<std::byte>(64 * kSector, std::byte{2}), random);
    file.power_loss(random, 50);
    std::set<std::byte> seen;
    for (std::uint64_t s = 0; s < 64; ++s) seen.insert(byte_at(file, s * kSector));
    mixed += seen.size() == 2 ? 1 : 0;
  }
  EXPECT_EQ(mixed, 50);
}

TEST(SimFile, TheSizeAfterPowerLossLiesBetweenTheSyncedAndTheCurrentOne) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::set<std::uint64_t> sizes;
  for (int life = 0; life < 200; ++life) {
    SimFile file;
    file.write(0, std::vector<std::byte>(8 * kSector, std::byte{1}), random);
    file.finish_sync(file.begin_sync());
    file.write(8 * kSector, std::vector<std::byte>(8 * kSector, std::byte{2}), random);
    file.power_loss(random, 50);
    ASSERT_GE(file.size(), 8 * kSector);
    ASSERT_LE(file.size(), 16 * kSector);
    sizes.insert(file.size());
    // What was cut off is not there any more when the file grows again.
    const std::uint64_t size = file.size();
    file.grow(100 * kSector);
    for (std::uint64_t s = size / kSector; s < 100; ++s) {
      ASSERT_EQ(byte_at(file, s * kSector), std::byte{0});
    }
    for (std::uint64_t s = 0; s < 8; ++s) ASSERT_EQ(byte_at(file, s * kSector), std::byte{1});
  }
  EXPECT_GT(sizes.size(), 2U);
}

TEST(SimFile, AFailedSyncIsNotMendedByTheNextOne) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  int lost = 0;
  for (int life = 0; life < 100; ++life) {
    SimFile file;
    file.write(0, std::vector<std::byte>(kSector, std::byte{1}), random);
    file.finish_sync(file.begin_sync());
    file.write(0, std::vector<std::byte>(kSector, std::byte{2}), random);
    file.fail_sync(file.begin_sync(), random);
    file.finish_sync(file.begin_sync());
    ASSERT_EQ(byte_at(file, 0), std::byte{2}) << "readable as long as the machine runs";
    file.power_loss(random, 100);
    lost += byte_at(file, 0) == std::byte{1} ? 1 : 0;
  }
  EXPECT_GT(lost, 10);
  EXPECT_LT(lost, 90);
}

TEST(SimFile, ATornWriteChangesWholeSectorsOfItsRangeOnly) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  int torn = 0;
  for (int life = 0; life < 100; ++life) {
    SimFile file;
    file.write(0, std::vector<std::byte>(32 * kSector, std::byte{1}), random);
    file.write_some(8 * kSector, std::vector<std::byte>(16 * kSector, std::byte{2}), random);
    int written = 0;
    for (std::uint64_t s = 0; s < 32; ++s) {
      const std::byte value = byte_at(file, s * kSector);
      ASSERT_EQ(byte_at(file, s * kSector + 511), value);
      if (value == std::byte{2}) {
        ASSERT_TRUE(s >= 8 && s < 24) << s;
        ++written;
      }
    }
    torn += written > 0 && written < 16 ? 1 : 0;
  }
  EXPECT_GT(torn, 50);
}

// Space is counted in blocks of 4 KiB, each once, however ranges overlap.
TEST(SimFileModel, ReservedBytesAreTheUnionOfTheRanges) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  SimFile file;
  std::set<std::uint64_t> blocks;
  for (int step = 0; step < 2'000; ++step) {
    const std::uint64_t offset = random.below(4_MiB);
    const std::uint64_t length = random.below(1ULL << random.below(18));
    std::uint64_t missing = 0;
    if (length > 0) {
      for (std::uint64_t b = offset / kBlockSize; b < blocks_for(offset + length); ++b) {
        missing += blocks.contains(b) ? 0 : kBlockSize;
      }
    }
    ASSERT_EQ(file.missing_bytes(offset, length), missing) << "step " << step;
    if (random.one_in(4)) {
      file.reserve(offset, length);
      for (std::uint64_t b = offset / kBlockSize; length > 0 && b < blocks_for(offset + length);
           ++b) {
        blocks.insert(b);
      }
    }
    ASSERT_EQ(file.allocated_bytes(), blocks.size() * kBlockSize) << "step " << step;
  }
}

// The medium has zeros there, with a bit turned, whatever the cache holds.
TEST(SimFile, RotBelowAWriteThatIsLostWithThePowerStays) {
  Random random(1);
  SimFile file;
  file.write(3 * kSector, std::vector<std::byte>(kSector, std::byte{5}), random);
  file.write(100 * kSector, std::vector<std::byte>(kSector, std::byte{6}), random);
  file.finish_sync(file.begin_sync());
  file.write(0, std::vector<std::byte>(kSector, std::byte{7}), random);
  file.flip_bit(10, 2);
  EXPECT_EQ(byte_at(file, 10), std::byte{3});
  file.power_loss(random, 0);
  EXPECT_EQ(byte_at(file, 9), std::byte{0});
  EXPECT_EQ(byte_at(file, 10), std::byte{4});
  EXPECT_EQ(byte_at(file, 3 * kSector), std::byte{5});
  EXPECT_EQ(byte_at(file, 100 * kSector), std::byte{6});
}

TEST(SimFile, ReadsWhatWasWrittenAtAnyAlignmentAndZerosElsewhere) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  SimFile file;
  std::vector<std::byte> model;
  for (int step = 0; step < 500; ++step) {
    const std::uint64_t offset = random.below(400'000);
    std::vector<std::byte> data(random.between(1, 1ULL << random.between(1, 17)));
    for (std::byte& b : data) b = static_cast<std::byte>(random.next());
    file.write(offset, data, random);
    if (model.size() < offset + data.size()) model.resize(offset + data.size());
    std::copy(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(offset));
    ASSERT_EQ(file.size(), model.size());
    const std::uint64_t from = random.below(model.size() + 1000);
    std::vector<std::byte> into(random.between(1, 200'000), std::byte{0xee});
    const std::size_t count = file.read(from, into);
    const std::size_t expected =
        from < model.size() ? std::min<std::size_t>(into.size(), model.size() - from) : 0;
    ASSERT_EQ(count, expected);
    ASSERT_TRUE(count == 0 || std::memcmp(into.data(), model.data() + from, count) == 0);
  }
}

TEST(SimFile, AFlippedBitIsThereForReadersAndAfterPowerLoss) {
  Random random(1);
  SimFile file;
  file.write(0, std::vector<std::byte>(10 * kSector, std::byte{0}), random);
  file.finish_sync(file.begin_sync());
  file.flip_bit(1234, 3);
  EXPECT_EQ(byte_at(file, 1234), std::byte{8});
  file.power_loss(random, 50);
  EXPECT_EQ(byte_at(file, 1234), std::byte{8});
  file.flip_bit(1'000'000, 0);
  EXPECT_EQ(file.size(), 10 * kSector);
}

}  // namespace
}  // namespace clouddisk
