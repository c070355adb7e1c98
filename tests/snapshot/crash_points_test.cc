// The life of a chain on a simulated machine, cut off at every step of it: captures, deletions and
// repacking, with and without the power, with and without the index. Also what only a simulated
// machine does cheaply: a full filesystem, and a chain of a thousand.
#include <gtest/gtest.h>

#include "engine/base/bytes.h"
#include "engine/ring/sim_ring.h"
#include "snapshot/volume.h"
#include "tests/engine/disk/disk_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk::snapshot {
namespace {

constexpr const char* kChain = "sl-test0000000000000001";
constexpr const char* kStorage = "d-test.1";
constexpr std::uint64_t kPages = 3;
constexpr std::uint64_t kSize = kPages * kPageBlocks * kBlockSize;
constexpr std::uint64_t kUsed = 40;  // blocks at the start of each page

using Content = std::vector<std::uint64_t>;  // of each used block; 0 for zeros

void fill(std::byte* block, std::uint64_t value) {
  Random random(value);
  for (std::size_t i = 0; i < kBlockSize; i += 8) {
    store_le(block + i, value == 0 ? 0 : i < 1024 ? random.next() : value);
  }
}

Volume::Options options_of() {
  Volume::Options options;
  options.index_root = "/root/index";
  options.chain.repack = false;  // when the test says so
  options.chain.frame_cache_bytes = 64_KiB;
  return options;
}

// What a catalog would have on record; it outlives the process.
struct Records {
  struct Snapshot {
    SnapshotState state;
    Content content;
  };
  std::map<std::uint64_t, Snapshot> snapshots;
  std::set<std::uint64_t> leaving;  // deleted, and perhaps not gone
  ReferencePoint reference;
  std::uint64_t last = 0;
  Content now = Content(kPages * kUsed);
  std::uint64_t next_value = 1;
};

// One life of the process.
struct Life {
  Life(Ring& ring, const Records& records)
      : machine(ring, "/root"),
        volume(*machine.environment, machine.pack_environment(), kChain, options_of()) {
    for (const auto& [seq, snapshot] : records.snapshots) volume.know(snapshot.state);
    volume.set_reference(records.reference);
  }
  Machine machine;
  Volume volume;
};

struct World {
  explicit World(std::uint64_t seed) : machine(seed) {
    for (const char* device : {"/root/replica-1", "/root/replica-2", "/root/replica-3"}) {
      machine.add_device(device, 4_GiB);
    }
    machine.add_device("/root/index", 4_GiB);
    begin();
    const StorageState state{kStorage, kSize, nullptr, 0};
    auto made =
        ring->block_on(Volume::create_storage(*life->machine.environment, options_of(), state));
    CHECK(made.has_value());
    open();
  }
  ~World() {
    if (life) end();
  }
  void begin() {
    ring = std::make_unique<SimRing>(machine);
    life = std::make_unique<Life>(*ring, records);
  }
  void open() {
    auto opened = ring->block_on(life->volume.open({kStorage, kSize, nullptr, 0}));
    CHECK(opened.has_value());
  }
  void end() {
    auto closed = ring->block_on(life->volume.close());
    EXPECT_TRUE(closed) << closed.error().message;
    life.reset();
    ring.reset();
  }
  void die(bool power) {
    Graveyard::bury(std::move(life));
    ring.reset();
    if (power) machine.power_loss();
  }
  void lose_index() {
    SimRing cleaner(machine);
    EXPECT_TRUE(cleaner.block_on(cleaner.remove_tree("/root/index")));
  }

  // --- Steps ---
  // Every `every`-th used block of each page.
  Task<void> write(std::uint64_t every) {
    Disk& disk = *life->volume.find(kStorage);
    for (std::uint64_t i = 0; i < records.now.size(); i += every) {
      Buffer data = co_await disk.buffers().allocate(kBlockSize);
      fill(data.data(), records.next_value);
      const std::uint64_t lba = i / kUsed * kPageBlocks + i % kUsed;
      auto written = co_await disk.write(lba * kBlockSize, std::move(data), false);
      CHECK(written.has_value());
      records.now[i] = records.next_value++;
    }
  }
  // The disk has the content of a snapshot again, written anew.
  Task<void> write_back(std::uint64_t seq) {
    Disk& disk = *life->volume.find(kStorage);
    records.now = records.snapshots.at(seq).content;
    for (std::uint64_t i = 0; i < records.now.size(); ++i) {
      Buffer data = co_await disk.buffers().allocate(kBlockSize);
      fill(data.data(), records.now[i]);
      const std::uint64_t lba = i / kUsed * kPageBlocks + i % kUsed;
      auto written = co_await disk.write(lba * kBlockSize, std::move(data), false);
      CHECK(written.has_value());
    }
  }
  Task<void> write_one(std::uint64_t i) {
    Disk& disk = *life->volume.find(kStorage);
    Buffer data = co_await disk.buffers().allocate(kBlockSize);
    fill(data.data(), records.next_value);
    const std::uint64_t lba = i / kUsed * kPageBlocks + i % kUsed;
    auto written = co_await disk.write(lba * kBlockSize, std::move(data), false);
    CHECK(written.has_value());
    records.now[i] = records.next_value++;
  }
  Task<void> take(std::uint64_t parent) {
    const std::shared_ptr<Disk> disk = life->volume.find(kStorage);
    auto view = co_await disk->freeze();
    CHECK(view.has_value());
    Records::Snapshot taken;
    taken.state.seq = records.last + 1;
    taken.state.size_bytes = kSize;
    taken.state.storage = kStorage;
    taken.state.epoch = *view;
    taken.state.parent = parent;
    taken.content = records.now;
    life->volume.know(taken.state);
    records.snapshots[++records.last] = std::move(taken);
  }
  Task<Result<void>> capture() {
    for (auto& [seq, snapshot] : records.snapshots) {
      if (snapshot.state.captured) continue;
      auto cursor = co_await life->volume.capture(seq, [](const auto&) {});
      if (!cursor) co_return cursor.error();
      snapshot.state.captured = true;
      records.reference = {seq, kStorage, snapshot.state.epoch};
      life->volume.captured(seq);
    }
    co_return Result<void>{};
  }
  Task<void> drop(std::uint64_t seq) {
    records.snapshots.erase(seq);
    records.leaving.insert(seq);
    if (records.reference.seq == seq) records.reference = {};
    co_await finish_drops();
  }
  // As a daemon does at its start.
  Task<void> finish_drops() {
    const std::set<std::uint64_t> leaving = records.leaving;
    for (const std::uint64_t seq : leaving) {
      auto dropped = co_await life->volume.drop(seq);
      CHECK(dropped.has_value());
      records.leaving.erase(seq);
    }
  }
  Task<void> repack() {
    auto chain = co_await life->volume.chain();
    CHECK(chain.has_value());
    auto count = co_await (*chain)->repack(1);
    CHECK(count.has_value());
    repacked += *count;
  }
  // What is cut off; told from the start after a restart: each part knows whether it is done.
  Task<void> late_life() {
    co_await finish_drops();
    auto captured = co_await capture();
    CHECK(captured.has_value());
    if (records.snapshots.count(1) != 0) co_await drop(1);
    co_await repack();
    if (records.snapshots.count(2) != 0) co_await drop(2);
    co_await repack();
    done = true;
  }

  void expect_content(std::uint64_t seq) {
    auto source = ring->block_on(life->volume.source(seq));
    ASSERT_TRUE(source) << source.error().message;
    const Content& content = records.snapshots.at(seq).content;
    std::vector<std::byte> got(kUsed * kBlockSize);
    std::vector<std::byte> expected(kBlockSize);
    for (std::uint64_t page = 0; page < kPages; ++page) {
      auto read = ring->block_on((*source)->read(*ring, Lba(page * kPageBlocks), got));
      ASSERT_TRUE(read) << "snapshot " << seq << ": " << read.error().message;
      for (std::uint64_t i = 0; i < kUsed; ++i) {
        fill(expected.data(), content[page * kUsed + i]);
        ASSERT_EQ(std::memcmp(expected.data(), got.data() + i * kBlockSize, kBlockSize), 0)
            << "snapshot " << seq << ", page " << page << ", block " << i;
      }
    }
  }
  void expect_everything() {
    for (const auto& [seq, snapshot] : records.snapshots) {
      expect_content(seq);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  Chain::Usage usage() {
    auto chain = ring->block_on(life->volume.chain());
    CHECK(chain.has_value());
    auto usage = ring->block_on((*chain)->usage());
    CHECK(usage.has_value());
    return *usage;
  }

  SimMachine machine;
  Records records;
  std::unique_ptr<SimRing> ring;
  std::unique_ptr<Life> life;
  std::uint64_t repacked = 0;
  bool done = false;
};

void prepare(World& run) {
  run.ring->block_on(run.write(1));
  run.ring->block_on(run.take(run.records.last));
  ASSERT_TRUE(run.ring->block_on(run.capture()));
  run.ring->block_on(run.write(2));
  run.ring->block_on(run.take(run.records.last));
  ASSERT_TRUE(run.ring->block_on(run.capture()));
  run.ring->block_on(run.write(3));
  run.ring->block_on(run.take(run.records.last));
}

// The process ends after `steps` turns of its ring; how many there were.
std::uint64_t run_until(World& run, std::uint64_t steps) {
  std::uint64_t taken = 0;
  spawn(run.late_life());
  run.ring->run_until([&] { return run.done || ++taken > steps; });
  return taken;
}

TEST(ChainCrash, EverySnapshotKeepsItsContentWhereverItsChainIsCutOff) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::uint64_t steps = 0;
  {
    World whole(seed);
    prepare(whole);
    steps = run_until(whole, ~std::uint64_t{0});
    ASSERT_GT(whole.repacked, 0U) << "the story has to have something to repack";
    whole.expect_everything();
  }
  constexpr std::uint64_t kCuts = 24;
  for (std::uint64_t cut = 0; cut < kCuts && !testing::Test::HasFailure(); ++cut) {
    const std::uint64_t at = (cut * steps + random.below(steps)) / kCuts;
    const bool power = random.one_in(2);
    const bool lose = random.one_in(3);
    SCOPED_TRACE(testing::Message()
                 << "cut off at step " << at << " of " << steps << (power ? ", power lost" : "")
                 << (lose ? ", index lost" : ""));
    World run(seed);
    prepare(run);
    run_until(run, at);
    run.die(power);
    if (lose) run.lose_index();
    run.begin();
    run.open();
    run.expect_everything();
    if (testing::Test::HasFailure()) return;
    run.ring->block_on(run.late_life());
    run.expect_everything();
    const Chain::Usage usage = run.usage();
    EXPECT_EQ(usage.shown_blocks, kPages * kUsed) << "one snapshot is left";
    EXPECT_LE(usage.held_blocks, 2 * usage.shown_blocks);
    // And what a rebuild finds is the same.
    run.end();
    run.lose_index();
    run.begin();
    run.open();
    run.expect_everything();
    EXPECT_EQ(run.usage().shown_blocks, kPages * kUsed);
    run.ring->block_on(run.drop(3));
    EXPECT_EQ(run.usage().frame_bytes, 0U);
  }
}

TEST(ChainCrash, OneReplicaIsEnoughToReadEverySnapshotOfAChainThatWasCutOff) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::uint64_t steps = 0;
  {
    World whole(seed);
    prepare(whole);
    steps = run_until(whole, ~std::uint64_t{0});
  }
  constexpr std::uint64_t kCuts = 16;
  for (std::uint64_t cut = 0; cut < kCuts && !testing::Test::HasFailure(); ++cut) {
    const std::uint64_t at = (cut * steps + random.below(steps)) / kCuts;
    const bool lose = random.one_in(2);
    SCOPED_TRACE(testing::Message()
                 << "cut off at step " << at << " of " << steps << (lose ? ", index lost" : ""));
    World run(seed);
    prepare(run);
    run_until(run, at);
    run.die(false);
    if (lose) run.lose_index();
    run.begin();
    ReplicaSet& replicas = *run.life->machine.replicas;
    for (const unsigned index : {1U, 2U}) {
      SimFaults away;
      away.gone = true;
      run.machine.set_faults(fmt::format("/root/replica-{}", index + 1), away);
      static_cast<void>(run.ring->block_on(replicas.drop(*run.ring, index, "gone")));
    }
    ASSERT_FALSE(replicas.can_write());
    run.open();
    run.expect_everything();
    run.die(false);
    // With all of them back, what could not be trimmed is.
    run.machine.clear_faults();
    run.begin();
    run.open();
    run.expect_everything();
    run.ring->block_on(run.late_life());
    run.expect_everything();
    EXPECT_EQ(run.usage().shown_blocks, kPages * kUsed) << "one snapshot is left";
    run.ring->block_on(run.drop(3));
    EXPECT_EQ(run.usage().frame_bytes, 0U);
  }
}

// Snapshot 4 descends from 2 and changes nothing, so it sees what 2 has; a record of the deleted 3
// that stood beside one of 2 must not come between them when the index is made anew.
TEST(ChainRepack, WhatIsDeletedIsNotFoundAgainByARebuild) {
  World world(announce_seed());
  prepare(world);
  ASSERT_TRUE(world.ring->block_on(world.capture()));
  world.ring->block_on(world.drop(1));
  world.ring->block_on(world.repack());
  ASSERT_GT(world.repacked, 0U);
  world.ring->block_on(world.drop(3));
  world.ring->block_on(world.write_back(2));
  world.ring->block_on(world.take(2));
  ASSERT_TRUE(world.ring->block_on(world.capture()));
  world.expect_everything();
  world.end();
  world.lose_index();
  world.begin();
  world.open();
  world.expect_everything();
}

Task<void> read_all_the_time(World& world, std::uint64_t seq, bool& stop, std::uint64_t& rounds) {
  auto source = co_await world.life->volume.source(seq);
  CHECK(source.has_value());
  std::vector<std::byte> got(kUsed * kBlockSize);
  std::vector<std::byte> expected(kBlockSize);
  const Content& content = world.records.snapshots.at(seq).content;
  while (!stop) {
    const std::uint64_t page = rounds++ % kPages;
    auto read = co_await (*source)->read(*world.ring, Lba(page * kPageBlocks), got);
    EXPECT_TRUE(read) << read.error().message;
    for (std::uint64_t i = 0; read && i < kUsed; ++i) {
      fill(expected.data(), content[page * kUsed + i]);
      EXPECT_EQ(std::memcmp(expected.data(), got.data() + i * kBlockSize, kBlockSize), 0);
    }
  }
}

TEST(ChainRepack, WhoReadsMeanwhileGetsTheRightBytes) {
  World world(announce_seed());
  prepare(world);
  ASSERT_TRUE(world.ring->block_on(world.capture()));
  bool stop = false;
  std::uint64_t rounds = 0;
  for (int i = 0; i < 4; ++i) spawn(read_all_the_time(world, 3, stop, rounds));
  for (const std::uint64_t gone : {1U, 2U}) {
    world.ring->block_on(world.drop(gone));
    world.ring->block_on(world.repack());
  }
  EXPECT_GT(world.repacked, 0U);
  EXPECT_GT(rounds, 10U);
  stop = true;
  world.ring->run_for(std::chrono::seconds(1));
}

TEST(ChainRepack, GivesTheSpaceOfMostlyUnusedFramesBack) {
  World world(announce_seed());
  world.ring->block_on(world.write(1));
  world.ring->block_on(world.take(0));
  ASSERT_TRUE(world.ring->block_on(world.capture()));
  // All but every tenth block is overwritten.
  for (std::uint64_t i = 0; i < world.records.now.size(); ++i) {
    if (i % 10 != 0) world.ring->block_on(world.write_one(i));
  }
  world.ring->block_on(world.take(1));
  ASSERT_TRUE(world.ring->block_on(world.capture()));
  world.ring->block_on(world.drop(1));
  const Chain::Usage before = world.usage();
  EXPECT_GT(before.held_blocks, 16 * before.shown_blocks / 10);
  world.ring->block_on(world.repack());
  const Chain::Usage after = world.usage();
  EXPECT_EQ(after.shown_blocks, before.shown_blocks);
  EXPECT_EQ(after.held_blocks, after.shown_blocks);
  EXPECT_LT(after.frame_bytes, before.frame_bytes * 7 / 10);
  world.expect_everything();
}

TEST(ChainSpace, AFullFilesystemFailsACaptureThatIsCompletedOnceThereIsRoom) {
  World world(announce_seed());
  world.ring->block_on(world.write(1));
  world.ring->block_on(world.take(0));
  for (const char* device : {"/root/replica-1", "/root/replica-2", "/root/replica-3"}) {
    world.machine.set_capacity(device, 1);
  }
  auto captured = world.ring->block_on(world.capture());
  ASSERT_FALSE(captured);
  EXPECT_EQ(captured.error().code, Errc::kNoSpace) << captured.error().message;
  world.expect_everything();
  const std::shared_ptr<Disk> disk = world.life->volume.find(kStorage);
  EXPECT_TRUE(world.ring->block_on(disk->read(0, kBlockSize)));
  for (const char* device : {"/root/replica-1", "/root/replica-2", "/root/replica-3"}) {
    world.machine.set_capacity(device, 4_GiB);
  }
  world.ring->block_on(world.write(5));
  captured = world.ring->block_on(world.capture());
  ASSERT_TRUE(captured) << captured.error().message;
  world.expect_everything();
  EXPECT_EQ(world.usage().shown_blocks, kPages * kUsed);
}

TEST(ChainOfAThousand, KeepsEveryByteOfTheOthersWhenTheMiddleOneIsDeleted) {
  const std::uint64_t seed = announce_seed();
  World world(seed);
  Random random(seed);
  world.ring->block_on(world.write(1));
  for (std::uint64_t seq = 1; seq <= 1000; ++seq) {
    world.ring->block_on(world.write_one(random.below(kPages * kUsed)));
    world.ring->block_on(world.take(seq - 1));
    ASSERT_TRUE(world.ring->block_on(world.capture()));
  }
  for (const std::uint64_t seq : {1U, 500U, 1000U}) world.expect_content(seq);
  world.ring->block_on(world.drop(500));
  world.ring->block_on(world.repack());
  for (const auto& [seq, snapshot] : world.records.snapshots) {
    if (seq % 16 == 0 || (seq > 490 && seq < 510) || seq > 990) world.expect_content(seq);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace clouddisk::snapshot
