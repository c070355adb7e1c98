// What survives the end of a process and the loss of power, through the ring as the engine uses it.
#include "engine/ring/sim_machine.h"

#include <gtest/gtest.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/ring/sim_ring.h"
#include "engine/ring/sync.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr int kLives = 100;  // enough to see each of a handful of outcomes

// A machine that went through `work`, a process's end and a power loss, many times over.
template <class Work, class Look>
void over_many_lives(std::uint64_t seed, Work work, Look look) {
  Random random(seed);
  for (int life = 0; life < kLives; ++life) {
    SimMachine machine(random.next());
    auto ring = std::make_unique<SimRing>(machine);
    work(*ring);
    ring.reset();
    machine.power_loss();
    SimRing after(machine);
    look(after, machine);
  }
}

AlignedBytes block(int fill) {
  return AlignedBytes(kBlockSize, static_cast<std::byte>(fill));
}

bool there(Ring& ring, const std::string& path) {
  return static_cast<bool>(ring.block_on(ring.stat(path)));
}

TEST(PowerLoss, SyncedDataUnderASyncedNameSurvives) {
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        EXPECT_OK(ring.block_on(ring.make_directories("/data/disk")));
        EXPECT_OK(ring.block_on(ring.sync_directory("/")));
        EXPECT_OK(ring.block_on(ring.sync_directory("/data")));
        const File file = open_file(ring, "/data/disk/a");
        EXPECT_EQ(write_at(ring, file, 0, block(7).span()), 4096);
        EXPECT_EQ(datasync(ring, file), 0);
        EXPECT_OK(ring.block_on(ring.sync_directory("/data/disk")));
        EXPECT_EQ(write_at(ring, file, 4096, block(8).span()), 4096);
      },
      [](SimRing& ring, SimMachine& machine) {
        ASSERT_TRUE(there(ring, "/data/disk/a"));
        const auto content = machine.content("/data/disk/a");
        ASSERT_GE(content->size(), 4096U);
        for (std::size_t i = 0; i < 4096; ++i) ASSERT_EQ((*content)[i], std::byte{7});
      });
}

TEST(PowerLoss, UnsyncedDataMaySurviveOrNot) {
  std::map<std::size_t, int> sectors_new;
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        const File file = open_file(ring, "/a");
        write_at(ring, file, 0, block(1).span());
        datasync(ring, file);
        EXPECT_OK(ring.block_on(ring.sync_directory("/")));
        write_at(ring, file, 0, block(2).span());
      },
      [&](SimRing&, SimMachine& machine) {
        const auto content = machine.content("/a");
        ASSERT_EQ(content->size(), 4096U);
        std::size_t fresh = 0;
        for (std::size_t s = 0; s < 8; ++s) {
          const std::byte value = (*content)[s * 512];
          ASSERT_TRUE(value == std::byte{1} || value == std::byte{2});
          fresh += value == std::byte{2} ? 1 : 0;
        }
        ++sectors_new[fresh];
      });
  EXPECT_GT(sectors_new[0], 0) << "never lost";
  EXPECT_GT(sectors_new[8], 0) << "never kept";
  EXPECT_GT(sectors_new.size(), 3U) << "never torn";
}

TEST(PowerLoss, ANewNameNeedsItsFolderSynced) {
  int kept = 0;
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        EXPECT_OK(ring.block_on(ring.make_directories("/d")));
        EXPECT_OK(ring.block_on(ring.sync_directory("/")));
        const File file = open_file(ring, "/d/a");
        write_at(ring, file, 0, block(1).span());
        datasync(ring, file);
      },
      [&](SimRing& ring, SimMachine&) {
        EXPECT_TRUE(there(ring, "/d"));
        kept += there(ring, "/d/a") ? 1 : 0;
      });
  EXPECT_GT(kept, 0);
  EXPECT_LT(kept, kLives);
}

TEST(PowerLoss, SyncingAFolderSaysNothingAboutItsParent) {
  int kept = 0;
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        EXPECT_OK(ring.block_on(ring.make_directories("/d/e")));
        open_file(ring, "/d/e/a");
        EXPECT_OK(ring.block_on(ring.sync_directory("/d/e")));
      },
      [&](SimRing& ring, SimMachine&) {
        if (there(ring, "/d/e")) {
          EXPECT_TRUE(there(ring, "/d/e/a"));
        }
        kept += there(ring, "/d/e") ? 1 : 0;
      });
  EXPECT_GT(kept, 0);
  EXPECT_LT(kept, kLives);
}

TEST(PowerLoss, ARenameHappensWholeOrNotAtAll) {
  std::map<std::string, int> outcomes;
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        for (const auto& [path, fill] : {std::pair{"/old", 1}, std::pair{"/new.tmp", 2}}) {
          const File file = open_file(ring, path);
          write_at(ring, file, 0, block(fill).span());
          datasync(ring, file);
        }
        EXPECT_OK(ring.block_on(ring.sync_directory("/")));
        EXPECT_OK(ring.block_on(ring.rename("/new.tmp", "/old")));
      },
      [&](SimRing& ring, SimMachine& machine) {
        const auto content = machine.content("/old");
        ASSERT_TRUE(content.has_value()) << "one of the two is always there";
        const bool renamed = content->front() == std::byte{2};
        EXPECT_EQ(there(ring, "/new.tmp"), !renamed);
        ++outcomes[renamed ? "renamed" : "not"];
      });
  EXPECT_EQ(outcomes.size(), 2U);
}

TEST(PowerLoss, ASyncedRenameAndASyncedRemovalStay) {
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        open_file(ring, "/a");
        open_file(ring, "/b");
        EXPECT_OK(ring.block_on(ring.sync_directory("/")));
        EXPECT_OK(ring.block_on(ring.rename("/a", "/c")));
        EXPECT_OK(ring.block_on(ring.remove("/b")));
        EXPECT_OK(ring.block_on(ring.sync_directory("/")));
      },
      [&](SimRing& ring, SimMachine&) {
        auto names = ring.block_on(ring.list("/"));
        EXPECT_EQ(*names, std::vector<std::string>{"c"});
      });
}

TEST(PowerLoss, ARemovalThatWasNotSyncedMayComeBackWithItsData) {
  int back = 0;
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        {
          const File file = open_file(ring, "/a");
          write_at(ring, file, 0, block(5).span());
          datasync(ring, file);
        }
        EXPECT_OK(ring.block_on(ring.sync_directory("/")));
        EXPECT_OK(ring.block_on(ring.remove("/a")));
      },
      [&](SimRing&, SimMachine& machine) {
        const auto content = machine.content("/a");
        if (!content) return;
        ++back;
        EXPECT_EQ(content->size(), 4096U);
        EXPECT_EQ(content->front(), std::byte{5});
      });
  EXPECT_GT(back, 0);
  EXPECT_LT(back, kLives);
}

TEST(PowerLoss, ALaterChangeOfANameNeverSurvivesWithoutTheEarlierOnes) {
  // a := 1, then a := 2 by rename, then a removed: any prefix of that, nothing else.
  std::set<std::string> outcomes;
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        for (const auto& [path, fill] : {std::pair{"/x1", 1}, std::pair{"/x2", 2}}) {
          const File file = open_file(ring, path);
          write_at(ring, file, 0, block(fill).span());
          datasync(ring, file);
        }
        EXPECT_OK(ring.block_on(ring.sync_directory("/")));
        EXPECT_OK(ring.block_on(ring.rename("/x1", "/a")));
        EXPECT_OK(ring.block_on(ring.rename("/x2", "/a")));
        EXPECT_OK(ring.block_on(ring.remove("/a")));
      },
      [&](SimRing& ring, SimMachine& machine) {
        const auto content = machine.content("/a");
        const int a = content ? static_cast<int>(content->front()) : 0;
        outcomes.insert(std::to_string(a) + (there(ring, "/x1") ? " x1" : "") +
                        (there(ring, "/x2") ? " x2" : ""));
      });
  const std::set<std::string> allowed = {"0 x1 x2", "1 x2", "2", "0"};
  for (const std::string& seen : outcomes) EXPECT_TRUE(allowed.contains(seen)) << seen;
  EXPECT_GT(outcomes.size(), 1U);
}

// --- The end of a process ---

TEST(ProcessDeath, WhatHasCompletedSurvivesWithoutAnySync) {
  SimMachine machine(announce_seed());
  auto ring = std::make_unique<SimRing>(machine);
  {
    EXPECT_OK(ring->block_on(ring->make_directories("/d")));
    const File file = open_file(*ring, "/d/a");
    EXPECT_EQ(write_at(*ring, file, 0, block(9).span()), 4096);
  }
  ring = nullptr;
  SimRing after(machine);
  AlignedBytes read(kBlockSize);
  const File file = open_file(after, "/d/a");
  EXPECT_EQ(read_at(after, file, 0, read.span()), 4096);
  EXPECT_TRUE(read.all(std::byte{9}));
}

Task<void> write_forever(Ring& ring, const File& file, const AlignedBytes& data, int& completed) {
  while (true) {
    const std::int32_t count = co_await write_task(ring, file, 0, data.span());
    if (count == 4096) ++completed;
  }
}

TEST(ProcessDeath, AWriteUnderWayIsThereWholeInPartOrNotAtAll) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::set<std::size_t> outcomes;
  for (int life = 0; life < kLives; ++life) {
    SimMachine machine(random.next());
    auto ring = std::make_unique<SimRing>(machine);
    auto file = std::make_unique<File>(open_file(*ring, "/a"));
    write_at(*ring, *file, 0, block(1).span());
    auto data = std::make_unique<AlignedBytes>(kBlockSize, std::byte{2});
    int completed = 0;
    spawn(write_forever(*ring, *file, *data, completed));
    ASSERT_EQ(completed, 0);
    Graveyard::bury(std::move(file));
    ring.reset();
    const auto content = machine.content("/a");
    std::size_t fresh = 0;
    for (std::size_t s = 0; s < 8; ++s) fresh += (*content)[s * 512] == std::byte{2} ? 1 : 0;
    outcomes.insert(fresh);
    Graveyard::bury(std::move(data));
  }
  EXPECT_TRUE(outcomes.contains(0));
  EXPECT_TRUE(outcomes.contains(8));
  EXPECT_GT(outcomes.size(), 3U);
}

// A process that does everything, in several coroutines at once.
struct Busy {
  explicit Busy(SimRing& r) : ring(r), group(r), mutex(r), signal(r) {}
  SimRing& ring;
  WaitGroup group;
  AsyncMutex mutex;
  Signal signal;
  std::vector<std::unique_ptr<File>> files;
  int rounds = 0;
};
Task<void> busy_worker(std::shared_ptr<Busy> busy, int id) {
  SimRing& ring = busy->ring;
  const std::string path = "/busy/" + std::to_string(id);
  AlignedBytes data(2 * kBlockSize, static_cast<std::byte>(id));
  while (true) {
    auto file = co_await ring.open(path, OpenOptions{.create = true});
    if (!file) co_return;
    co_await write_task(ring, *file, 0, data.span());
    {
      auto guard = co_await busy->mutex.lock();
      co_await datasync_task(ring, *file);
    }
    co_await read_task(ring, *file, 0, data.span());
    // A closure that owns something has a name: GCC 12 destroys a temporary one twice.
    auto work = [path] { return path.size(); };
    CO_ASSERT_TRUE(co_await ring.blocking(std::move(work)) == path.size());
    co_await busy->signal.wait_until(ring.now() + std::chrono::milliseconds(1));
    auto renamed = co_await ring.rename(path, path + "x");
    if (!renamed) co_return;
    ++busy->rounds;
    busy->signal.wake_all();
  }
}

TEST(ProcessDeath, IsPossibleAtEveryStep) {
  const std::uint64_t seed = announce_seed();
  for (int steps = 0; steps < 400; ++steps) {
    SimMachine machine(seed);
    auto ring = std::make_unique<SimRing>(machine);
    EXPECT_OK(ring->block_on(ring->make_directories("/busy")));
    auto busy = std::make_unique<std::shared_ptr<Busy>>(std::make_shared<Busy>(*ring));
    for (int id = 1; id <= 4; ++id) spawn(busy_worker(*busy, id));
    int left = steps;
    ring->run_until([&left] { return left-- == 0; });
    Graveyard::bury(std::move(busy));
    ring.reset();
    if (steps % 2 == 1) machine.power_loss();
    SimRing after(machine);
    const bool folder = there(after, "/busy");
    ASSERT_TRUE(folder || steps % 2 == 1);
    if (!folder) continue;
    auto names = after.block_on(after.list("/busy"));
    ASSERT_OK(names);
    for (const std::string& name : *names) {
      const auto content = machine.content("/busy/" + name);
      ASSERT_LE(content->size(), 2 * kBlockSize);
      for (const std::byte b : *content) {
        ASSERT_TRUE(b == std::byte{0} || static_cast<int>(b) == name[0] - '0') << name;
      }
    }
  }
}

TEST(ProcessDeath, ItsFilesCloseAndUnnamedOnesGiveTheirSpaceBack) {
  SimMachine machine(1);
  machine.add_device("/disk", 1_MiB);
  auto ring = std::make_unique<SimRing>(machine);
  EXPECT_OK(ring->block_on(ring->make_directories("/disk")));
  auto file = std::make_unique<File>(open_file(*ring, "/disk/a"));
  EXPECT_EQ(allocate(*ring, *file, 0, 512_KiB), 0);
  EXPECT_OK(ring->block_on(ring->remove("/disk/a")));
  EXPECT_EQ(ring->block_on(ring->space("/disk"))->available, 512_KiB);
  Graveyard::bury(std::move(file));
  ring.reset();
  SimRing after(machine);
  EXPECT_EQ(after.block_on(after.space("/disk"))->available, 1_MiB);
}

// --- Devices ---

TEST(Devices, SpaceIsCountedByDeviceAndTheLongestPrefixWins) {
  SimMachine machine(1);
  machine.add_device("/a", 1_MiB);
  machine.add_device("/a/b", 2_MiB);
  SimRing ring(machine);
  EXPECT_OK(ring.block_on(ring.make_directories("/a/b/c")));
  EXPECT_OK(ring.block_on(ring.make_directories("/ab")));
  const auto device = [&](const char* path) { return ring.block_on(ring.stat(path))->device; };
  EXPECT_EQ(device("/a/b"), device("/a/b/c"));
  EXPECT_NE(device("/a"), device("/a/b"));
  EXPECT_EQ(device("/"), device("/ab"));
  EXPECT_EQ(ring.block_on(ring.space("/a"))->total, 1_MiB);
  EXPECT_EQ(ring.block_on(ring.space("/a/b/c"))->total, 2_MiB);
  open_file(ring, "/a/x");
  const auto moved = ring.block_on(ring.rename("/a/x", "/a/b/x"));
  EXPECT_FALSE(moved) << "two filesystems";
}

TEST(Devices, AFullOneRefusesAndGoesOnOnceThereIsRoom) {
  SimMachine machine(1);
  machine.add_device("/disk", 64_KiB);
  SimRing ring(machine);
  EXPECT_OK(ring.block_on(ring.make_directories("/disk")));
  const File one = open_file(ring, "/disk/one");
  const File two = open_file(ring, "/disk/two");
  EXPECT_EQ(allocate(ring, one, 0, 48_KiB), 0);
  EXPECT_EQ(allocate(ring, two, 0, 32_KiB), -ENOSPC);
  const AlignedBytes data(32_KiB, std::byte{3});
  EXPECT_EQ(write_at(ring, two, 0, data.span()), -ENOSPC);
  EXPECT_EQ(write_at(ring, one, 16_KiB, data.span()), 32768) << "what is reserved can be written";
  EXPECT_EQ(ring.block_on(ring.space("/disk"))->available, 16_KiB);
  machine.set_capacity("/disk", 128_KiB);
  EXPECT_EQ(write_at(ring, two, 0, data.span()), 32768);
  EXPECT_OK(ring.block_on(ring.remove("/disk/two")));
  EXPECT_EQ(ring.block_on(ring.space("/disk"))->available, 48_KiB) << "two is still open";
}

TEST(Devices, PowerLossCountsTheSpaceThatIsLeftInUse) {
  over_many_lives(
      announce_seed(),
      [](SimRing& ring) {
        const File file = open_file(ring, "/a");
        write_at(ring, file, 0, AlignedBytes(64_KiB).span());
        datasync(ring, file);
      },
      [](SimRing& ring, SimMachine& machine) {
        const auto space = ring.block_on(ring.space("/"));
        const std::uint64_t used = space->total - space->available;
        EXPECT_EQ(used, machine.exists("/a") ? 64_KiB : 0);
      });
}

TEST(Devices, AnUnlinkedOpenFileStillWorks) {
  SimMachine machine(1);
  SimRing ring(machine);
  const File file = open_file(ring, "/a");
  EXPECT_OK(ring.block_on(ring.remove("/a")));
  EXPECT_EQ(write_at(ring, file, 0, block(4).span()), 4096);
  EXPECT_EQ(datasync(ring, file), 0);
  AlignedBytes read(kBlockSize);
  EXPECT_EQ(read_at(ring, file, 0, read.span()), 4096);
  EXPECT_TRUE(read.all(std::byte{4}));
  EXPECT_FALSE(machine.exists("/a"));
}

// --- The medium, for tests ---

TEST(Medium, FilesAreListedWithTheirPathsAndRotHitsOneOfThem) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  EXPECT_OK(ring.block_on(ring.make_directories("/a/b")));
  const File one = open_file(ring, "/a/b/one");
  const File two = open_file(ring, "/a/two");
  const File other = open_file(ring, "/other");
  EXPECT_EQ(machine.files_below("/a"), (std::vector<std::string>{"/a/b/one", "/a/two"}));
  EXPECT_EQ(machine.rot("/a"), std::nullopt) << "both are empty";
  write_at(ring, one, 0, block(0).span());
  write_at(ring, other, 0, block(0).span());
  EXPECT_EQ(machine.rot("/a"), "/a/b/one");
  const auto rotten = machine.content("/a/b/one");
  int bits = 0;
  for (const std::byte b : *rotten) bits += std::popcount(static_cast<unsigned>(b));
  EXPECT_EQ(bits, 1);
  EXPECT_TRUE(machine.flip_bit("/other", 5, 2));
  EXPECT_EQ((*machine.content("/other"))[5], std::byte{4});
  EXPECT_FALSE(machine.flip_bit("/other", 4096));
  EXPECT_FALSE(machine.flip_bit("/missing", 0));
  EXPECT_EQ(machine.content("/missing"), std::nullopt);
}

TEST(Paths, AreNormalised) {
  const std::pair<const char*, const char*> kCases[] = {
      {"", "/"}, {"/", "/"}, {"//a//b/", "/a/b"}, {"/a/./b", "/a/b"}, {"a", "/a"}};
  for (const auto& [path, expected] : kCases) EXPECT_EQ(normal_path(path), expected) << path;
}

}  // namespace
}  // namespace clouddisk
