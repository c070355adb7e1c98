// ring.h, held by both implementations: io_uring over a real folder, and the simulator.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/ring/sim_ring.h"
#include "engine/ring/sync.h"
#include "engine/ring/uring_ring.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk {
namespace {

using std::chrono::milliseconds;

enum class Kind { kSimulated, kUring };

class RingContract : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::kSimulated) {
      machine_ = std::make_unique<SimMachine>(announce_seed());
      owner_ = std::make_unique<SimRing>(*machine_);
      ASSERT_OK(owner_->block_on(owner_->make_directories("/root")));
      root_ = "/root";
    } else {
      auto made = UringRing::create({});
      ASSERT_TRUE(made) << made.error().message;
      owner_ = *std::move(made);
      folder_ = std::make_unique<TemporaryFolder>();
      root_ = folder_->path();
    }
  }
  Ring& ring() { return *owner_; }
  std::string path(const std::string& name) const { return root_ + "/" + name; }
  Result<File> open(const std::string& name, OpenOptions options) {
    return ring().block_on(ring().open(path(name), options));
  }
  Errc code_of(const Result<void>& result) {
    return result ? Errc::kShutdown : result.error().code;
  }

  std::unique_ptr<SimMachine> machine_;
  std::unique_ptr<TemporaryFolder> folder_;
  std::unique_ptr<Ring> owner_;
  std::string root_;
};

INSTANTIATE_TEST_SUITE_P(Ring, RingContract, testing::Values(Kind::kSimulated, Kind::kUring),
                         [](const auto& info) {
                           return info.param == Kind::kUring ? "Uring" : "Simulated";
                         });

// --- Time and scheduling ---

Task<void> sleep_and_note(Ring& ring, int ms, std::vector<int>& log) {
  co_await ring.sleep_for(milliseconds(ms));
  log.push_back(ms);
}

TEST_P(RingContract, TimersFireInTheirOrderAndNotEarly) {
  std::vector<int> log;
  const TimePoint begin = ring().now();
  for (const int ms : {30, 10, 20}) spawn(sleep_and_note(ring(), ms, log));
  ring().run_until([&] { return log.size() == 3; });
  EXPECT_EQ(log, (std::vector<int>{10, 20, 30}));
  EXPECT_GE(ring().now() - begin, milliseconds(30));
}

TEST_P(RingContract, ATimerInThePastFiresAtOnce) {
  const auto wait = [](Ring& r) -> Task<void> {
    co_await r.sleep_until(r.now() - milliseconds(5));
  };
  ring().block_on(wait(ring()));
}

TEST_P(RingContract, ACancelledTimerDoesNotFireAndAFiredOneCannotBeCancelled) {
  std::vector<int> log;
  Completion cancelled;
  cancelled.waiter = std::noop_coroutine();
  ring().start_timer(ring().now() + milliseconds(5), cancelled);
  EXPECT_TRUE(ring().cancel_timer(cancelled));
  EXPECT_FALSE(ring().cancel_timer(cancelled));
  Completion fired;
  fired.waiter = std::noop_coroutine();
  ring().start_timer(ring().now() + milliseconds(5), fired);
  spawn(sleep_and_note(ring(), 10, log));
  ring().run_until([&] { return log.size() == 1; });
  EXPECT_FALSE(ring().cancel_timer(fired));
}

Task<void> yielding(Ring& ring, int id, std::vector<int>& log) {
  for (int i = 0; i < 3; ++i) {
    log.push_back(id);
    co_await ring.yield();
  }
}

TEST_P(RingContract, WhatIsReadyRunsFirstComeFirstServed) {
  std::vector<int> log;
  for (int id = 0; id < 3; ++id) spawn(yielding(ring(), id, log));
  ring().run_until([&] { return log.size() == 9; });
  EXPECT_EQ(log, (std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1, 2}));
  ring().block_on(sleep_task(ring(), milliseconds(1)));  // Lets the last ones end.
}

TEST_P(RingContract, PostedFunctionsRunInTheirOrder) {
  std::vector<int> log;
  ring().post([&] {
    log.push_back(1);
    ring().post([&] { log.push_back(3); });
  });
  ring().post([&] { log.push_back(2); });
  EXPECT_TRUE(log.empty());
  ring().run_until([&] { return log.size() == 3; });
  EXPECT_EQ(log, (std::vector<int>{1, 2, 3}));
}

TEST_P(RingContract, TheWallClockRunsAndIsThisCenturys) {
  const WallTime before = ring().wall_now();
  EXPECT_GT(before.time_since_epoch(), std::chrono::hours(24 * 365 * 50));
  sleep_for(ring(), milliseconds(5));
  EXPECT_GE(ring().wall_now() - before, milliseconds(4));
}

// --- Files ---

TEST_P(RingContract, OpeningFollowsItsOptions) {
  EXPECT_EQ(open("a", {}).error().code, Errc::kNotFound);
  EXPECT_OK(open("a", {.create = true, .exclusive = true}));
  EXPECT_EQ(open("a", {.create = true, .exclusive = true}).error().code, Errc::kExists);
  EXPECT_OK(open("a", {.create = true}));
  EXPECT_OK(open("a", {.access = Access::kRead}));
  EXPECT_EQ(open("missing/a", {.create = true}).error().code, Errc::kNotFound);
}

TEST_P(RingContract, WritesAreReadBackAndReadsEndAtTheEndOfTheFile) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  const File file = open_file(ring(), path("a"));
  const AlignedBytes data(64_KiB, random);
  EXPECT_EQ(write_at(ring(), file, 4096, data.span()), 65536);
  EXPECT_EQ(datasync(ring(), file), 0);
  AlignedBytes back(64_KiB);
  EXPECT_EQ(read_at(ring(), file, 4096, back.span()), 65536);
  EXPECT_TRUE(back == data);
  EXPECT_EQ(read_at(ring(), file, 0, back.span().first(4096)), 4096);
  for (const std::byte b : back.span().first(4096)) ASSERT_EQ(b, std::byte{0});  // A hole.
  EXPECT_EQ(read_at(ring(), file, 64_KiB, back.span()), 4096) << "short at the end";
  EXPECT_EQ(read_at(ring(), file, 1_MiB, back.span()), 0) << "nothing past it";
}

Task<std::int32_t> write_pieces(Ring& ring, const File& file, const AlignedBytes& data) {
  const std::array<iovec, 3> pieces{iovec{data.data() + 8192, 4096}, iovec{data.data(), 8192},
                                    iovec{data.data() + 12288, 4096}};
  co_return co_await ring.write(file, 0, pieces);
}

TEST_P(RingContract, AVectorIsWrittenPieceByPiece) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  const File file = open_file(ring(), path("a"));
  const AlignedBytes data(16384, random);
  EXPECT_EQ(ring().block_on(write_pieces(ring(), file, data)), 16384);
  AlignedBytes back(16384);
  EXPECT_EQ(read_at(ring(), file, 0, back.span()), 16384);
  EXPECT_EQ(std::memcmp(back.data(), data.data() + 8192, 4096), 0);
  EXPECT_EQ(std::memcmp(back.data() + 4096, data.data(), 8192), 0);
  EXPECT_EQ(std::memcmp(back.data() + 12288, data.data() + 12288, 4096), 0);
}

TEST_P(RingContract, BufferedFilesTakeAnyAlignment) {
  auto file = open("a", {.create = true, .direct = false});
  ASSERT_OK(file);
  const AlignedBytes data(100, std::byte{7});
  EXPECT_EQ(write_at(ring(), *file, 33, data.span().subspan(1, 77)), 77);
  AlignedBytes back(200);
  EXPECT_EQ(read_at(ring(), *file, 0, back.span()), 110);
  EXPECT_EQ(back.span()[32], std::byte{0});
  EXPECT_EQ(back.span()[33], std::byte{7});
  EXPECT_EQ(ring().block_on(ring().stat(path("a")))->size, 110U);
}

TEST_P(RingContract, AFileOpenForReadingRefusesWrites) {
  const AlignedBytes data(4096);
  EXPECT_EQ(write_at(ring(), open_file(ring(), path("a")), 0, data.span()), 4096);
  auto file = open("a", {.access = Access::kRead});
  ASSERT_OK(file);
  EXPECT_EQ(write_at(ring(), *file, 0, data.span()), -EBADF);
  EXPECT_EQ(allocate(ring(), *file, 0, 8192), -EBADF);
  EXPECT_EQ(read_at(ring(), *file, 0, data.span()), 4096);
}

TEST_P(RingContract, AllocatingExtendsTheFileWithZeros) {
  const File file = open_file(ring(), path("a"));
  EXPECT_EQ(allocate(ring(), file, 0, 1_MiB), 0);
  EXPECT_EQ(ring().block_on(ring().stat(path("a")))->size, 1_MiB);
  AlignedBytes back(4096, std::byte{1});
  EXPECT_EQ(read_at(ring(), file, 1_MiB - 4096, back.span()), 4096);
  EXPECT_TRUE(back.all(std::byte{0}));
  EXPECT_EQ(allocate(ring(), file, 0, 4096), 0);
  EXPECT_EQ(ring().block_on(ring().stat(path("a")))->size, 1_MiB) << "it never shrinks";
}

Task<void> write_one(Ring& ring, const File& file, std::uint64_t index, AlignedBytes data,
                     WaitGroup& group) {
  EXPECT_EQ(co_await write_task(ring, file, index * 4096, data.span()), 4096);
  EXPECT_EQ(co_await read_task(ring, file, index * 4096, data.span()), 4096);
  EXPECT_TRUE(data.all(static_cast<std::byte>(index)));
  group.done();
}

// More than the submission queue holds.
TEST_P(RingContract, ThousandsOfOperationsAtOnceAllComplete) {
  const File file = open_file(ring(), path("a"));
  WaitGroup group(ring());
  constexpr std::uint64_t kCount = 3000;
  group.add(kCount);
  for (std::uint64_t i = 0; i < kCount; ++i) {
    spawn(write_one(ring(), file, i, AlignedBytes(4096, static_cast<std::byte>(i)), group));
  }
  ring().block_on(group.wait());
  EXPECT_EQ(ring().block_on(ring().stat(path("a")))->size, kCount * 4096);
}

TEST_P(RingContract, AnUnlinkedFileGoesOnWorking) {
  const File file = open_file(ring(), path("a"));
  EXPECT_OK(ring().block_on(ring().remove(path("a"))));
  const AlignedBytes data(4096, std::byte{5});
  EXPECT_EQ(write_at(ring(), file, 0, data.span()), 4096);
  EXPECT_EQ(datasync(ring(), file), 0);
  AlignedBytes back(4096);
  EXPECT_EQ(read_at(ring(), file, 0, back.span()), 4096);
  EXPECT_TRUE(back == data);
  EXPECT_EQ(ring().block_on(ring().stat(path("a"))).error().code, Errc::kNotFound);
}

// --- Folders ---

TEST_P(RingContract, FoldersAreMadeWithTheirParentsAndListedSorted) {
  for (int i = 0; i < 2; ++i) {
    EXPECT_OK(ring().block_on(ring().make_directories(path("x/y/z"))));
  }
  for (const char* name : {"x/b", "x/a", "x/C"}) open_file(ring(), path(name));
  auto names = ring().block_on(ring().list(path("x")));
  ASSERT_OK(names);
  EXPECT_EQ(*names, (std::vector<std::string>{"C", "a", "b", "y"}));
  EXPECT_OK(ring().block_on(ring().sync_directory(path("x"))));
  EXPECT_EQ(ring().block_on(ring().list(path("nothing"))).error().code, Errc::kNotFound);
  EXPECT_EQ(code_of(ring().block_on(ring().sync_directory(path("nothing")))), Errc::kNotFound);
  EXPECT_EQ(ring().block_on(ring().list(path("x/a"))).error().code, Errc::kNotFound);
  EXPECT_FALSE(ring().block_on(ring().make_directories(path("x/a/below a file"))));
}

TEST_P(RingContract, RenamingReplacesAndKeepsTheInode) {
  for (const auto& [name, fill] : {std::pair{"a", 1}, std::pair{"b", 2}}) {
    const File file = open_file(ring(), path(name));
    write_at(ring(), file, 0, AlignedBytes(4096, static_cast<std::byte>(fill)).span());
  }
  const File old = open_file(ring(), path("b"));
  const auto a = ring().block_on(ring().stat(path("a")));
  const auto b = ring().block_on(ring().stat(path("b")));
  ASSERT_OK(a);
  ASSERT_OK(b);
  EXPECT_NE(a->inode, b->inode);
  EXPECT_EQ(a->device, b->device);
  EXPECT_OK(ring().block_on(ring().rename(path("a"), path("b"))));
  EXPECT_EQ(ring().block_on(ring().stat(path("b")))->inode, a->inode);
  EXPECT_EQ(ring().block_on(ring().stat(path("a"))).error().code, Errc::kNotFound);
  AlignedBytes back(4096);
  EXPECT_EQ(read_at(ring(), old, 0, back.span()), 4096);
  EXPECT_TRUE(back.all(std::byte{2})) << "the replaced file, still open";
  EXPECT_EQ(read_at(ring(), open_file(ring(), path("b")), 0, back.span()), 4096);
  EXPECT_TRUE(back.all(std::byte{1}));
  EXPECT_EQ(code_of(ring().block_on(ring().rename(path("a"), path("c")))), Errc::kNotFound);
  EXPECT_EQ(code_of(ring().block_on(ring().rename(path("b"), path("no/c")))), Errc::kNotFound);
}

TEST_P(RingContract, AFolderMovesWithWhatIsInIt) {
  EXPECT_OK(ring().block_on(ring().make_directories(path("x/y"))));
  open_file(ring(), path("x/y/a"));
  EXPECT_OK(ring().block_on(ring().rename(path("x"), path("z"))));
  EXPECT_OK(ring().block_on(ring().stat(path("z/y/a"))));
  EXPECT_FALSE(ring().block_on(ring().rename(path("z"), path("z/y/z")))) << "into itself";
}

TEST_P(RingContract, RemovingTellsAMissingFileAndATreeGoesWhole) {
  EXPECT_EQ(code_of(ring().block_on(ring().remove(path("a")))), Errc::kNotFound);
  EXPECT_OK(ring().block_on(ring().make_directories(path("x/y"))));
  open_file(ring(), path("x/y/a"));
  EXPECT_OK(ring().block_on(ring().remove_tree(path("x"))));
  EXPECT_OK(ring().block_on(ring().remove_tree(path("x"))));
  EXPECT_EQ(ring().block_on(ring().stat(path("x"))).error().code, Errc::kNotFound);
}

TEST_P(RingContract, AFolderIsRemovedOnceItIsEmpty) {
  EXPECT_OK(ring().block_on(ring().make_directories(path("x"))));
  open_file(ring(), path("x/a"));
  EXPECT_FALSE(ring().block_on(ring().remove(path("x")))) << "with a file in it";
  EXPECT_OK(ring().block_on(ring().stat(path("x/a"))));
  EXPECT_OK(ring().block_on(ring().remove(path("x/a"))));
  EXPECT_OK(ring().block_on(ring().remove(path("x"))));
  EXPECT_EQ(code_of(ring().block_on(ring().remove(path("x")))), Errc::kNotFound);
}

TEST_P(RingContract, WhatGoesFirstRunsAndGivesWhatItReturned) {
  EXPECT_EQ(ring().block_on(ring().blocking_first([] { return 7; })), 7);
}

TEST_P(RingContract, StatAndSpaceTellWhatIsThere) {
  const File file = open_file(ring(), path("a"));
  write_at(ring(), file, 0, AlignedBytes(8192).span());
  const auto info = ring().block_on(ring().stat(path("a")));
  ASSERT_OK(info);
  EXPECT_FALSE(info->is_directory);
  EXPECT_EQ(info->size, 8192U);
  const auto folder = ring().block_on(ring().stat(root_));
  ASSERT_OK(folder);
  EXPECT_TRUE(folder->is_directory);
  EXPECT_EQ(folder->device, info->device);
  const auto space = ring().block_on(ring().space(root_));
  ASSERT_OK(space);
  EXPECT_GT(space->total, 0U);
  EXPECT_LE(space->available, space->total);
  EXPECT_EQ(ring().block_on(ring().space(path("no"))).error().code, Errc::kNotFound);
}

// --- Workers and environments ---

Task<int> sum_on_workers(Ring& ring) {
  int sum = 0;
  for (int i = 0; i < 10; ++i) {
    const int part = co_await ring.blocking([i] { return i; });
    sum += part;
  }
  co_await ring.blocking([&sum] { sum += 1000; });
  co_return sum;
}

TEST_P(RingContract, BlockingWorkReturnsItsResult) {
  EXPECT_EQ(ring().block_on(sum_on_workers(ring())), 1045);
}

TEST_P(RingContract, TheRingGoesOnWhileWorkBlocks) {
  std::vector<int> log;
  const auto blocked = [](Ring& r, std::vector<int>& to) -> Task<void> {
    co_await r.blocking([] { usleep(1000); });
    to.push_back(-1);
  };
  spawn(blocked(ring(), log));
  spawn(yielding(ring(), 7, log));
  ring().run_until([&] { return log.size() == 4; });
  EXPECT_EQ(log, (std::vector<int>{7, 7, 7, -1}));
}

Task<Result<std::string>> through_environment(Ring& ring, std::string directory) {
  co_return co_await ring.blocking([&ring, &directory]() -> Result<std::string> {
    auto kv = ring.open_kv(directory, KvOptions{});
    if (!kv) return kv.error();
    auto writer = (*kv)->write();
    if (!writer) return writer.error();
    if (auto put = (*writer)->put(as_bytes("key"), as_bytes("value")); !put) return put.error();
    if (auto done = (*writer)->commit(); !done) return done.error();
    auto reader = (*kv)->read();
    if (!reader) return reader.error();
    auto value = (*reader)->get(as_bytes("key"));
    if (!value) return value.error();
    return value->has_value() ? std::string(as_text(**value)) : std::string();
  });
}

TEST_P(RingContract, EnvironmentsOpenInAFolder) {
  const auto value = ring().block_on(through_environment(ring(), path("kv")));
  ASSERT_OK(value);
  EXPECT_EQ(*value, "value");
  EXPECT_TRUE(ring().block_on(ring().stat(path("kv")))->is_directory);
}

}  // namespace
}  // namespace clouddisk
