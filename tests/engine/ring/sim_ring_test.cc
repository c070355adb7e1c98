#include "engine/ring/sim_ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "engine/ring/sync.h"
#include "tests/engine/ring/sim_support.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

TimePoint at(Duration since_start) {
  return TimePoint(since_start);
}

Task<void> sleep_then_note(Ring& ring, Duration delay, int number, std::vector<int>& order) {
  co_await ring.sleep_for(delay);
  order.push_back(number);
}

TEST(SimRing, TimeStartsAtZeroAndJumpsToTheNextTimer) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  EXPECT_EQ(ring.now(), TimePoint{});
  const WallTime wall = ring.wall_now();
  std::vector<int> order;
  ring.block_on(sleep_then_note(ring, hours(1000), 1, order));
  EXPECT_EQ(ring.now(), at(hours(1000)));
  EXPECT_EQ(ring.wall_now() - wall, Duration(hours(1000)));
}

TEST(SimRing, TimersFireInOrderOfTimeAndEqualOnesInOrderOfStarting) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  std::vector<int> order;
  spawn(sleep_then_note(ring, seconds(3), 3, order));
  spawn(sleep_then_note(ring, seconds(1), 1, order));
  spawn(sleep_then_note(ring, seconds(3), 4, order));
  spawn(sleep_then_note(ring, seconds(2), 2, order));
  ring.run_until([&] { return order.size() == 4; });
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
  EXPECT_EQ(ring.now(), at(seconds(3)));
}

TEST(SimRing, RunForStopsTheClockAtItsEnd) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  std::vector<int> order;
  spawn(sleep_then_note(ring, seconds(1), 1, order));
  spawn(sleep_then_note(ring, seconds(5), 2, order));
  ring.run_for(seconds(2));
  EXPECT_EQ(order, std::vector<int>{1});
  EXPECT_EQ(ring.now(), at(seconds(2)));
  ring.run_for(seconds(10));
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_EQ(ring.now(), at(seconds(12)));
}

Task<void> wait_with_deadline(Ring& ring, Signal& signal, Duration limit, bool& woken) {
  woken = co_await signal.wait_until(ring.now() + limit);
}

TEST(SimRing, DeadlinesOfSignalsFollowVirtualTime) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  Signal signal(ring);
  bool woken = true;
  ring.block_on(wait_with_deadline(ring, signal, seconds(30), woken));
  EXPECT_FALSE(woken);
  EXPECT_EQ(ring.now(), at(seconds(30)));
}

Task<void> spin_until(Ring& ring, const bool& stop) {
  while (!stop) co_await ring.yield();
}
Task<void> sleep_then_set(Ring& ring, Duration delay, bool& flag) {
  co_await ring.sleep_for(delay);
  flag = true;
}

TEST(SimRing, ASpinningCoroutineDoesNotStopTheClock) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  bool stop = false;
  spawn(sleep_then_set(ring, milliseconds(1), stop));
  ring.block_on(spin_until(ring, stop));
  EXPECT_GE(ring.now(), at(milliseconds(1)));
}

TEST(SimRing, PostedFunctionsAndBlockingWorkRun) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  int posted = 0;
  ring.post([&] { ring.post([&] { posted = 2; }); });
  ring.run_until([&] { return posted == 2; });
  EXPECT_EQ(ring.now(), TimePoint{});
  const int answer = ring.block_on(ring.blocking([] { return 42; }));
  EXPECT_EQ(answer, 42);
  EXPECT_GT(ring.now(), TimePoint{});
}

TEST(SimRingDeathTest, WaitingForWhatCannotHappenStopsTheProcess) {
  SimMachine machine(1);
  SimRing ring(machine);
  EXPECT_DEATH(ring.run_until([] { return false; }), "nothing is left to happen");
}

Task<void> read_and_note(Ring& ring, const File& file, int number, std::vector<int>& order) {
  Bytes data(512);
  co_await ring.read(file, 0, data);
  order.push_back(number);
}

TEST(SimRing, OperationsCompleteInAnyOrder) {
  SimMachine machine(announce_seed());
  Process process(machine);
  const File file = process.open("/file");
  process.write(file, 0, filled(512, 1));
  std::vector<int> order;
  for (int i = 0; i < 40; ++i) spawn(read_and_note(*process.ring, file, i, order));
  process.ring->run_until([&] { return order.size() == 40; });
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));  // By chance: one in 40!.
}

Task<std::int32_t> accept_one(Ring& ring) {
  co_return co_await ring.accept(3);
}

TEST(SimRing, ThereAreNoSockets) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  EXPECT_EQ(ring.block_on(accept_one(ring)), -EOPNOTSUPP);
}

TEST(SimRing, DirectFilesRefuseUnalignedMemoryOffsetsAndLengths) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  OpenOptions how;
  how.create = true;
  auto file = ring.block_on(ring.open("/file", how));
  ASSERT_TRUE(file);
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(4096, 16384));
  std::memset(memory, 7, 16384);
  struct Case {
    const char* what;
    std::size_t memory_offset;
    std::uint64_t offset;
    std::size_t length;
    std::int32_t expected;
  };
  const Case cases[] = {
      {"aligned", 0, 0, 8192, 8192},     {"elsewhere", 4096, 12288, 4096, 4096},
      {"memory", 512, 0, 4096, -EINVAL}, {"offset", 0, 512, 4096, -EINVAL},
      {"length", 0, 0, 512, -EINVAL},
  };
  for (const Case& c : cases) {
    const iovec piece{memory + c.memory_offset, c.length};
    const auto write = [](SimRing& on, const File& to, std::uint64_t offset,
                          const iovec& from) -> Task<std::int32_t> {
      co_return co_await on.write(to, offset, std::span(&from, 1));
    };
    EXPECT_EQ(ring.block_on(write(ring, *file, c.offset, piece)), c.expected) << c.what;
    const std::span into(memory + c.memory_offset, c.length);
    EXPECT_EQ(ring.block_on(read_at(ring, *file, c.offset, into)), c.expected) << c.what;
  }
  std::free(memory);
}

Task<void> write_from(Ring& ring, const File& file, const Bytes& data, std::int32_t& result) {
  const iovec piece{const_cast<std::byte*>(data.data()), data.size()};
  result = co_await ring.write(file, 0, std::span(&piece, 1));
}

TEST(SimRingDeathTest, APayloadThatChangesUnderItsWriteStopsTheProcess) {
  SimMachine machine(1);
  Process process(machine);
  const File file = process.open("/file");
  Bytes data = filled(512, 1);
  std::int32_t result = 0;
  spawn(write_from(*process.ring, file, data, result));
  EXPECT_DEATH(
      {
        data[100] = std::byte{2};
        process.ring->run_until([&] { return result != 0; });
      },
      "payload_unchanged");
  process.ring->run_until([&] { return result != 0; });
  EXPECT_EQ(result, 512);
}

TEST(SimRing, OperationsOnAClosedOrReadOnlyFileAnswerBadDescriptor) {
  SimMachine machine(announce_seed());
  Process process(machine);
  process.write(process.open("/file"), 0, filled(512, 1));
  OpenOptions how;
  how.access = Access::kRead;
  how.direct = false;
  auto file = process.ring->block_on(process.ring->open("/file", how));
  ASSERT_TRUE(file);
  EXPECT_EQ(process.write(*file, 0, filled(512, 2)), -EBADF);
  EXPECT_EQ(process.read(*file, 0, 1024), filled(512, 1));  // Short at the end of the file.
  const File nothing(nullptr, -1);
  EXPECT_EQ(process.sync(nothing), -EBADF);
}

// A small program whose course depends on everything that is seeded.
Task<void> busy_work(Ring& ring, int worker, int& finished) {
  OpenOptions how;
  how.create = true;
  how.direct = false;
  auto file = co_await ring.open("/file" + std::to_string(worker), how);
  CHECK(file.has_value());
  for (unsigned i = 0; i < 20; ++i) {
    Bytes data = filled(2048, i);
    const iovec piece{data.data(), data.size()};
    const std::int32_t written = co_await ring.write(*file, i * 1000, std::span(&piece, 1));
    if (written < 0) co_await ring.sleep_for(milliseconds(1));
    if (i % 5 == 0) co_await ring.datasync(*file);
  }
  ++finished;
}

std::uint64_t trace_of_run(std::uint64_t seed) {
  SimMachine machine(seed);
  SimFaults faults;
  faults.write_error = 10;
  faults.datasync_error = 5;
  machine.set_faults("/", faults);
  SimRing ring(machine);
  int finished = 0;
  for (int i = 0; i < 5; ++i) spawn(busy_work(ring, i, finished));
  ring.run_until([&] { return finished == 5; });
  return ring.trace();
}

TEST(SimRing, TheSameSeedGivesTheSameRun) {
  const std::uint64_t seed = announce_seed();
  const std::uint64_t first = trace_of_run(seed);
  EXPECT_EQ(trace_of_run(seed), first);
  EXPECT_NE(trace_of_run(seed + 1), first);
}

TEST(SimRing, EndsSafelyWithCoroutinesAtEveryKindOfAwait) {
  const std::uint64_t seed = announce_seed();
  for (unsigned steps = 0; steps < 200; ++steps) {
    SimMachine machine(seed + steps);
    auto ring = std::make_unique<SimRing>(machine);
    auto finished = std::make_unique<int>(0);
    for (int i = 0; i < 3; ++i) spawn(busy_work(*ring, i, *finished));
    auto order = std::make_unique<std::vector<int>>();
    spawn(sleep_then_note(*ring, hours(1), 1, *order));
    unsigned left = steps;
    ring->run_until([&] { return *finished == 3 || left-- == 0; });
    Graveyard::bury(std::move(finished));
    Graveyard::bury(std::move(order));
    ring.reset();
    machine.power_loss();
    SimRing next(machine);
    EXPECT_TRUE(next.block_on(next.list("/")));
  }
}

}  // namespace
}  // namespace clouddisk
