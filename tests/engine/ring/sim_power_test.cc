// What the end of a process and a loss of power leave of files and names.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "engine/ring/sim_machine.h"
#include "tests/engine/ring/sim_support.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr std::size_t kSector = SimFile::kSector;
constexpr int kRuns = 200;

TEST(SimPower, SyncedDataAndNamesSurviveAlways) {
  const std::uint64_t seed = announce_seed();
  for (int run = 0; run < kRuns; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    Process process(machine);
    process.make_durable("/d", "f", filled(10000, 7));
    process.kill();
    machine.power_loss();
    ASSERT_EQ(machine.content("/d/f"), filled(10000, 7)) << "run " << run;
  }
}

TEST(SimPower, AnySubsetOfUnsyncedSectorsSurvives) {
  const std::uint64_t seed = announce_seed();
  std::set<std::size_t> survivors;  // how many of the eight sectors
  bool with_a_gap = false;
  for (int run = 0; run < kRuns; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    Process process(machine);
    process.make_durable("/d", "f", filled(8 * kSector, 1));
    process.write(process.open("/d/f"), 0, filled(8 * kSector, 2));
    process.kill();
    machine.power_loss();
    const Bytes left = *machine.content("/d/f");
    ASSERT_EQ(left.size(), 8 * kSector);
    std::size_t fresh = 0;
    for (std::size_t s = 0; s < 8; ++s) {
      const auto sector = std::span(left).subspan(s * kSector, kSector);
      ASSERT_TRUE(std::ranges::all_of(sector, [&](std::byte b) { return b == sector[0]; }));
      if (sector[0] == std::byte{2}) {
        with_a_gap |= fresh < s;
        ++fresh;
      }
    }
    survivors.insert(fresh);
  }
  EXPECT_TRUE(survivors.contains(0));
  EXPECT_TRUE(survivors.contains(8));
  EXPECT_GT(survivors.size(), 4U);
  EXPECT_TRUE(with_a_gap);
}

Task<void> sync_and_note(Ring& ring, const File& file, bool& done) {
  const std::int32_t result = co_await ring.datasync(file);
  EXPECT_EQ(result, 0);
  done = true;
}

TEST(SimPower, ADatasyncCoversWhatWasCompleteBeforeItAndOwesThatVersion) {
  const std::uint64_t seed = announce_seed();
  bool later_lost = false;
  for (int run = 0; run < kRuns; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    SimRing::Options options;
    options.write = {Duration(1), Duration(1)};  // Faster than any sync.
    Process process(machine, options);
    process.make_durable("/d", "f", filled(kSector, 1));
    {
      const File file = process.open("/d/f");
      process.write(file, 0, filled(kSector, 2));
      bool synced = false;
      spawn(sync_and_note(*process.ring, file, synced));
      process.write(file, 0, filled(kSector, 3));
      ASSERT_FALSE(synced);
      process.ring->run_until([&] { return synced; });
    }
    process.kill();
    machine.power_loss();
    const std::byte left = machine.content("/d/f")->front();
    ASSERT_TRUE(left == std::byte{2} || left == std::byte{3}) << static_cast<int>(left);
    later_lost |= left == std::byte{2};
  }
  EXPECT_TRUE(later_lost);
}

TEST(SimPower, AFailedDatasyncMayLoseWhatItCoveredAlthoughALaterOneSucceeds) {
  const std::uint64_t seed = announce_seed();
  std::set<std::byte> seen;
  for (int run = 0; run < kRuns; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    Process process(machine);
    process.make_durable("/d", "f", filled(kSector, 1));
    {
      const File file = process.open("/d/f");
      process.write(file, 0, filled(kSector, 2));
      SimFaults faults;
      faults.datasync_error = 1;
      machine.set_faults("/d", faults);
      EXPECT_EQ(process.sync(file), -EIO);
      machine.clear_faults();
      EXPECT_EQ(process.sync(file), 0);
      EXPECT_EQ(process.read(file, 0, kSector), filled(kSector, 2));  // From the cache.
    }
    process.kill();
    machine.power_loss();
    seen.insert(machine.content("/d/f")->front());
  }
  EXPECT_EQ(seen, (std::set<std::byte>{std::byte{1}, std::byte{2}}));
}

Task<void> write_forgotten(Ring& ring, std::string path, Bytes data, int& state) {
  OpenOptions how;
  how.direct = false;
  auto file = co_await ring.open(path, how);
  CHECK(file.has_value());
  const iovec piece{data.data(), data.size()};
  state = 1;
  co_await ring.write(*file, 0, std::span(&piece, 1));
  state = 2;
}

TEST(SimPower, TheEndOfAProcessTearsWritesUnderWayAndKeepsCompletedOnes) {
  const std::uint64_t seed = announce_seed();
  std::set<long> survivors;
  for (int run = 0; run < kRuns; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    Process process(machine);
    process.make_durable("/d", "f", filled(8 * kSector, 1));
    process.write(process.open("/d/f"), 8 * kSector, filled(kSector, 9));  // Complete, unsynced.
    auto state = std::make_unique<int>(0);
    spawn(write_forgotten(*process.ring, "/d/f", filled(8 * kSector, 2), *state));
    process.ring->run_until([&] { return *state == 1; });
    Graveyard::bury(std::move(state));
    process.kill();
    const Bytes left = *machine.content("/d/f");
    ASSERT_EQ(left.size(), 9 * kSector);
    ASSERT_EQ(left.back(), std::byte{9});
    survivors.insert(std::count(left.begin(), left.end(), std::byte{2}) / long{kSector});
  }
  EXPECT_TRUE(survivors.contains(0));
  EXPECT_TRUE(survivors.contains(8));
  EXPECT_GT(survivors.size(), 4U);
}

TEST(SimPower, UnsyncedNamesSurviveOrNot) {
  const std::uint64_t seed = announce_seed();
  int there = 0;
  for (int run = 0; run < kRuns; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    Process process(machine);
    process.make_durable("/d", "old", filled(10, 1));
    EXPECT_EQ(process.sync(process.open("/d/new")), 0);  // The file, not its name.
    process.kill();
    machine.power_loss();
    ASSERT_TRUE(machine.exists("/d/old"));
    there += machine.exists("/d/new") ? 1 : 0;
  }
  EXPECT_GT(there, 0);
  EXPECT_LT(there, kRuns);
}

TEST(SimPower, ARenameHappensWholeOrNotAtAllAndReplacesAtomically) {
  const std::uint64_t seed = announce_seed();
  int renamed = 0;
  for (int run = 0; run < kRuns; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    Process process(machine);
    process.make_durable("/d", "to", filled(10, 1));
    process.make_durable("/d", "from", filled(10, 2));
    ASSERT_TRUE(process.ring->block_on(process.ring->rename("/d/from", "/d/to")));
    EXPECT_FALSE(machine.exists("/d/from"));
    process.kill();
    machine.power_loss();
    ASSERT_TRUE(machine.exists("/d/to"));
    const bool happened = *machine.content("/d/to") == filled(10, 2);
    ASSERT_EQ(machine.exists("/d/from"), !happened);
    renamed += happened ? 1 : 0;
  }
  EXPECT_GT(renamed, 0);
  EXPECT_LT(renamed, kRuns);
}

TEST(SimPower, ASyncedFolderKeepsRenamesAndRemovals) {
  const std::uint64_t seed = announce_seed();
  for (int run = 0; run < 50; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    Process process(machine);
    Ring& ring = *process.ring;
    process.make_durable("/d", "a", filled(10, 1));
    process.make_durable("/d", "b", filled(10, 2));
    EXPECT_TRUE(ring.block_on(ring.make_directories("/d/tree/deep")));
    process.write(process.open("/d/tree/deep/f"), 0, filled(10, 3));
    EXPECT_TRUE(ring.block_on(ring.rename("/d/a", "/d/c")));
    EXPECT_TRUE(ring.block_on(ring.remove("/d/b")));
    EXPECT_TRUE(ring.block_on(ring.remove_tree("/d/tree")));
    EXPECT_TRUE(ring.block_on(ring.sync_directory("/d")));
    process.kill();
    machine.power_loss();
    ASSERT_EQ(machine.files_below("/"), std::vector<std::string>{"/d/c"});
    ASSERT_EQ(machine.content("/d/c"), filled(10, 1));
  }
}

TEST(SimPower, AnAllocatedSizeIsDurableOnceSynced) {
  const std::uint64_t seed = announce_seed();
  bool shorter = false;
  for (int run = 0; run < kRuns; ++run) {
    SimMachine machine(seed + static_cast<unsigned>(run));
    Process process(machine);
    process.make_durable("/d", "synced", {});
    process.make_durable("/d", "not", {});
    {
      const File file = process.open("/d/synced");
      EXPECT_EQ(process.allocate(file, 1_MiB), 0);
      EXPECT_EQ(process.sync(file), 0);
      EXPECT_EQ(process.allocate(process.open("/d/not"), 1_MiB), 0);
    }
    process.kill();
    machine.power_loss();
    ASSERT_EQ(machine.content("/d/synced"), filled(1_MiB, 0));
    shorter |= machine.content("/d/not")->size() < 1_MiB;
  }
  EXPECT_TRUE(shorter);
}

// Every sector may hold any version that was written since the last sync, or the one it found.
TEST(SimPower, RandomHistoriesLeaveOnlyWhatTheModelAllows) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  constexpr std::size_t kSectors = 300;  // More than two chunks.
  for (int run = 0; run < 20; ++run) {
    SimMachine machine(random.next());
    std::vector<std::set<unsigned>> allowed(kSectors, std::set<unsigned>{0});
    std::vector<unsigned> current(kSectors, 0);
    unsigned version = 0;
    {
      Process process(machine);
      process.make_durable("/d", "f", filled(kSectors * kSector, 0));
      process.kill();
    }
    for (int life = 0; life < 5; ++life) {
      Process process(machine);
      const auto steps = random.below(40);
      for (std::uint64_t step = 0; step < steps; ++step) {
        const File file = process.open("/d/f");
        if (random.one_in(8)) {
          ASSERT_EQ(process.sync(file), 0);
          for (std::size_t s = 0; s < kSectors; ++s) allowed[s] = {current[s]};
          continue;
        }
        const std::size_t first = random.below(kSectors);
        const std::size_t count = random.between(1, std::min<std::size_t>(kSectors - first, 150));
        version = version % 250 + 1;
        process.write(file, first * kSector, filled(count * kSector, version));
        for (std::size_t s = first; s < first + count; ++s) {
          current[s] = version;
          allowed[s].insert(version);
        }
      }
      process.kill();
      const bool power = random.one_in(2);
      if (power) machine.power_loss();
      const Bytes left = *machine.content("/d/f");
      ASSERT_EQ(left.size(), kSectors * kSector);
      for (std::size_t s = 0; s < kSectors; ++s) {
        const auto value = static_cast<unsigned>(left[s * kSector]);
        ASSERT_EQ(value, static_cast<unsigned>(left[s * kSector + kSector - 1]));
        if (power) {
          ASSERT_TRUE(allowed[s].contains(value)) << "sector " << s << " holds " << value;
          allowed[s] = {value};
          current[s] = value;
        } else {
          ASSERT_EQ(value, current[s]) << "sector " << s;
        }
      }
    }
  }
}

}  // namespace
}  // namespace clouddisk
