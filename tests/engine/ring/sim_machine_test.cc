// The machine below the simulated ring: names and their order, processes that die at any step,
// devices, time and faults by path. Data after a power loss is in sim_power_test.cc.
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

using std::chrono::hours;
using std::chrono::seconds;

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

// --- Time ---

TEST(Time, TheWallClockCanStepWithoutTheMonotonicOne) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  const WallTime wall = ring.wall_now();
  machine.step_wall_clock(-hours(1));
  EXPECT_EQ(ring.wall_now() - wall, -hours(1));
  EXPECT_EQ(ring.now().time_since_epoch(), Duration(0));
}

TEST(Time, TimeGoesOnInTheNextProcess) {
  SimMachine machine(1);
  {
    SimRing first(machine);
    sleep_for(first, seconds(5));
  }
  const SimRing second(machine);
  EXPECT_EQ(second.now(), TimePoint(seconds(5)));
}

TEST(Time, LatenciesStayInTheirRange) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  const File a = open_file(ring, "/a");
  const AlignedBytes data(kBlockSize);
  for (int i = 0; i < 200; ++i) {
    const TimePoint begin = ring.now();
    write_at(ring, a, 0, data.span());
    ASSERT_GE(ring.now() - begin, SimRing::Options().write.min);
    ASSERT_LE(ring.now() - begin, SimRing::Options().write.max);
  }
}

// --- Faults ---

TEST(Faults, FaultsHitTheirPrefixOnlyAndTheLongestCounts) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  for (const char* folder : {"/r1", "/r1/good", "/r10"}) {
    EXPECT_OK(ring.block_on(ring.make_directories(folder)));
  }
  const File one = open_file(ring, "/r1/a");
  const File good = open_file(ring, "/r1/good/a");
  const File ten = open_file(ring, "/r10/a");
  SimFaults gone;
  gone.gone = true;
  machine.set_faults("/r1", gone);
  machine.set_faults("/r1/good", SimFaults{});
  const AlignedBytes data(kBlockSize);
  EXPECT_EQ(write_at(ring, one, 0, data.span()), -EIO);
  EXPECT_EQ(write_at(ring, good, 0, data.span()), 4096);
  EXPECT_EQ(write_at(ring, ten, 0, data.span()), 4096);
}

TEST(Faults, AHungDeviceThatGoesAwayAnswersWithAnError) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  const File a = open_file(ring, "/a");
  SimFaults faults;
  faults.hung_until = SimFaults::kForever;
  machine.set_faults("/a", faults);
  std::int32_t result = 1;
  const auto syncer = [](Ring& ring, const File& to, std::int32_t& answer) -> Task<void> {
    answer = co_await ring.datasync(to);
  };
  spawn(syncer(ring, a, result));
  ring.run_for(seconds(1));
  EXPECT_EQ(result, 1);
  faults.gone = true;
  machine.set_faults("/a", faults);
  ring.run_for(seconds(1));
  EXPECT_EQ(result, -EIO);
}

TEST(Faults, AMisdirectedWriteLandsElsewhereOnItsDevice) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  machine.add_device("/other", 1_MiB);
  EXPECT_OK(ring.block_on(ring.make_directories("/other")));
  const File a = open_file(ring, "/a");
  const File b = open_file(ring, "/b");
  const File far = open_file(ring, "/other/c");
  const AlignedBytes zeros(16 * kBlockSize);
  for (const File* target : {&a, &b, &far}) write_at(ring, *target, 0, zeros.span());
  SimFaults faults;
  faults.misdirected_write = 1;
  machine.set_faults("/", faults);
  std::set<std::string> hit;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(write_at(ring, a, 0, AlignedBytes(kBlockSize, std::byte{9}).span()), 4096);
    for (const char* path : {"/a", "/b", "/other/c"}) {
      const auto content = machine.content(path);
      for (std::size_t block = 0; block < 16; ++block) {
        if ((*content)[block * kBlockSize] == std::byte{9}) hit.insert(path);
      }
    }
  }
  EXPECT_EQ(hit, (std::set<std::string>{"/a", "/b"}));
  EXPECT_EQ(machine.content("/a")->front(), std::byte{0}) << "its own place is never hit";
}

TEST(Faults, AFailedWriteMayHaveHappenedInPart) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  const File a = open_file(ring, "/a");
  std::set<std::size_t> seen;
  SimFaults faults;
  faults.write_error = 1;
  for (int i = 0; i < 100; ++i) {
    machine.clear_faults();
    write_at(ring, a, 0, AlignedBytes(kBlockSize, std::byte{1}).span());
    machine.set_faults("/", faults);
    EXPECT_EQ(write_at(ring, a, 0, AlignedBytes(kBlockSize, std::byte{2}).span()), -EIO);
    const auto content = machine.content("/a");
    std::size_t fresh = 0;
    for (std::size_t s = 0; s < 8; ++s) fresh += (*content)[s * 512] == std::byte{2} ? 1 : 0;
    seen.insert(fresh);
  }
  EXPECT_GT(seen.size(), 4U);
}

TEST(Faults, FolderOperationsFailAtTheirRate) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  SimFaults faults;
  faults.name_error = 2;
  machine.set_faults("/", faults);
  int failed = 0;
  for (int i = 0; i < 200; ++i) failed += ring.block_on(ring.stat("/")) ? 0 : 1;
  EXPECT_GT(failed, 50);
  EXPECT_LT(failed, 150);
}

TEST(FaultsDeathTest, ClosingAFileUnderAnOperationStopsTheProcess) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  File a = open_file(ring, "/a");
  const AlignedBytes data(kBlockSize);
  EXPECT_DEATH(
      {
        spawn([](Ring& ring, const File& to, const AlignedBytes& from) -> Task<void> {
          co_await write_task(ring, to, 0, from.span());
        }(ring, a, data));
        a.close();
      },
      "operations == 0");
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
