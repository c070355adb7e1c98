// Crashes of the simulated machine at any moment, and what the disk is afterwards.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "engine/ring/sim_ring.h"
#include "tests/engine/disk/disk_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kBlocks = 512;
constexpr unsigned kWriters = 4;

// Every write so far, in the order of the calls. A block holds the number of the write that wrote
// it, all over; 0 stands for a trim or for nothing.
class History {
 public:
  struct Write {
    std::uint64_t id = 0;  // 0: a trim
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    bool acked = false;
  };
  std::size_t add(std::uint64_t id, std::uint64_t first, std::uint64_t count) {
    writes_.push_back({id, first, count, false});
    return writes_.size() - 1;
  }
  void acknowledge(std::size_t index) { writes_[index].acked = true; }
  // Everything acknowledged by now is durable from now on.
  std::size_t acked_prefix() const {
    std::size_t end = 0;
    for (std::size_t i = 0; i < writes_.size(); ++i) {
      if (writes_[i].acked) end = i + 1;
    }
    return end;
  }
  void set_durable(std::size_t end) { durable_ = std::max(durable_, end); }
  std::size_t durable() const { return durable_; }

  // The length of a prefix that has this content and at least `at_least` writes; nothing: none has.
  std::optional<std::size_t> prefix_with(const std::vector<std::uint64_t>& content,
                                         std::size_t at_least) const {
    std::vector<std::uint64_t> state(kBlocks, 0);
    std::size_t wrong = 0;
    for (std::uint64_t b = 0; b < kBlocks; ++b) wrong += content[b] != 0;
    std::optional<std::size_t> found;
    for (std::size_t end = 0; end <= writes_.size(); ++end) {
      if (end >= at_least && wrong == 0) found = end;
      if (end == writes_.size()) break;
      for (std::uint64_t b = writes_[end].first; b < writes_[end].first + writes_[end].count; ++b) {
        wrong -= state[b] != content[b];
        state[b] = writes_[end].id;
        wrong += state[b] != content[b];
      }
    }
    return found;
  }
  // What came after never happened.
  void cut(std::size_t end) {
    writes_.resize(end);
    for (Write& write : writes_) write.acked = true;
    durable_ = end;
  }

 private:
  std::vector<Write> writes_;
  std::size_t durable_ = 0;
};

// One life of the process.
struct Life {
  Life(Ring& ring, const Disk::Options& options) : machine(ring, "/root") {
    if (machine.error) return;
    auto opened = ring.block_on(
        Disk::open(*machine.environment, identity_in("/root", kBlocks * kBlockSize), options));
    if (opened) {
      disk = *opened;
    } else {
      error = opened.error();
    }
  }
  Machine machine;
  std::shared_ptr<Disk> disk;
  std::optional<Error> error;
};

struct Load {
  Life& life;
  History& history;
  Random random;
  std::uint64_t& next_id;
  bool stop = false;
  unsigned running = 0;
};

Task<void> write_at_random(std::shared_ptr<Load> load) {
  Disk& disk = *load->life.disk;
  while (!load->stop) {
    const std::uint64_t kind = load->random.below(20);
    const std::uint64_t count = load->random.between(1, load->random.one_in(4) ? 16 : 3);
    const std::uint64_t first = load->random.below(kBlocks - count + 1);
    if (kind == 0) {
      const std::size_t mark = load->history.acked_prefix();
      auto flushed = co_await disk.flush();
      if (flushed) load->history.set_durable(mark);
    } else if (kind == 1) {
      const std::size_t index = load->history.add(0, first, count);
      auto trimmed = co_await disk.trim(first * kBlockSize, count * kBlockSize, false);
      if (trimmed) load->history.acknowledge(index);
    } else if (kind == 2) {
      auto done = co_await disk.checkpoint();
      static_cast<void>(done);
    } else {
      Buffer data = co_await disk.buffers().allocate(count * kBlockSize);
      const std::uint64_t id = load->next_id++;
      for (std::size_t at = 0; at < data.size(); at += 8) store_le(data.data() + at, id);
      const bool fua = load->random.one_in(10);
      // The number is given at the call: that is where the order of writes is made.
      const std::size_t index = load->history.add(id, first, count);
      auto written = co_await disk.write(first * kBlockSize, std::move(data), fua);
      if (written) {
        load->history.acknowledge(index);
        if (fua) load->history.set_durable(index + 1);
      }
    }
  }
  --load->running;
}

std::vector<std::uint64_t> content_of(Ring& ring, Disk& disk) {
  std::vector<std::uint64_t> content;
  for (std::uint64_t block = 0; block < kBlocks; ++block) {
    auto data = ring.block_on(disk.read(block * kBlockSize, kBlockSize));
    EXPECT_TRUE(data) << data.error().message;
    if (!data) return {};
    const auto id = load_le<std::uint64_t>(data->data());
    for (std::size_t at = 0; at < kBlockSize; at += 8) {
      EXPECT_EQ(load_le<std::uint64_t>(data->data() + at), id) << "block " << block;
    }
    content.push_back(id);
  }
  return content;
}

struct Scenario {
  const char* name;
  bool power;        // the machine goes, not only the process
  bool lose_index;   // and the index with it
  SimFaults second;  // of replica 2, while it runs
};

void run_scenario(const Scenario& scenario, std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << scenario.name << " seed " << seed);
  Random random(seed);
  SimMachine machine(random.next());
  for (const char* device : {"/root/replica-1", "/root/replica-2", "/root/replica-3"}) {
    machine.add_device(device, 4_GiB);
  }
  Disk::Options options;
  // Checkpoints all the time, and never a wait for one: writes are logged in the order of the
  // calls.
  options.checkpoint_bytes = 256_KiB;
  History history;
  std::uint64_t next_id = 1;
  {
    SimRing ring(machine);
    Machine first(ring, "/root");
    ASSERT_FALSE(first.error) << first.error->message;
    auto made = ring.block_on(
        Disk::create(*first.environment, identity_in("/root", kBlocks * kBlockSize), options));
    ASSERT_TRUE(made) << made.error().message;
  }
  for (int crash = 0; crash < 4; ++crash) {
    auto ring = std::make_unique<SimRing>(machine);
    auto life = std::make_unique<Life>(*ring, options);
    ASSERT_FALSE(life->machine.error) << life->machine.error->message;
    ASSERT_FALSE(life->error) << life->error->message;
    const auto content = content_of(*ring, *life->disk);
    ASSERT_EQ(content.size(), kBlocks);
    const auto prefix = history.prefix_with(content, history.durable());
    ASSERT_TRUE(prefix) << "no prefix of " << history.durable() << " writes or more, crash "
                        << crash;
    history.cut(*prefix);

    machine.set_faults("/root/replica-2", scenario.second);
    auto load = std::make_shared<Load>(Load{*life, history, random.fork(), next_id});
    load->running = kWriters;
    for (unsigned i = 0; i < kWriters; ++i) spawn(write_at_random(load));
    ring->run_for(std::chrono::milliseconds(random.between(1, 200)));
    if (!scenario.power) history.set_durable(history.acked_prefix());  // I2: acked is enough.
    Graveyard::bury(std::move(life));
    ring.reset();
    machine.set_faults("/root/replica-2", {});
    if (scenario.power) machine.power_loss();
    if (scenario.lose_index) {
      SimRing cleaner(machine);
      ASSERT_TRUE(cleaner.block_on(cleaner.remove_tree("/root/index")));
    }
  }
}

Task<void> remove_disk(DiskEnvironment* environment, std::shared_ptr<bool> done) {
  auto removed = co_await Disk::remove(*environment, identity_in("/root", kBlocks * kBlockSize));
  EXPECT_TRUE(removed) << removed.error().message;
  *done = true;
}

// Disks are found by their folders, and what is not found is not removed.
TEST(DiskCrash, ARemovalThatIsCutOffLeavesNoIndexThatNobodyFinds) {
  bool ended = false;
  for (std::uint64_t run = 0; !ended; ++run) {
    const std::uint64_t turns = run / 2;
    const bool power = run % 2 != 0;
    SimMachine machine(7 + turns);
    {
      SimRing ring(machine);
      Machine maker(ring, "/root");
      ASSERT_FALSE(maker.error) << maker.error->message;
      const auto who = [] { return identity_in("/root", kBlocks * kBlockSize); };
      ASSERT_TRUE(ring.block_on(Disk::create(*maker.environment, who(), {})));
      auto disk = ring.block_on(Disk::open(*maker.environment, who(), {}));
      ASSERT_TRUE(disk) << disk.error().message;
      Buffer block = ring.block_on(maker.client_buffers.allocate(kBlockSize));
      ASSERT_TRUE(ring.block_on((*disk)->write(0, std::move(block), false)));
      ASSERT_TRUE(ring.block_on((*disk)->close()));
    }
    ASSERT_FALSE(machine.files_below("/root/index").empty());
    auto ring = std::make_unique<SimRing>(machine);
    auto remover = std::make_unique<Machine>(*ring, "/root");
    ASSERT_FALSE(remover->error) << remover->error->message;
    const auto done = std::make_shared<bool>(false);
    spawn(remove_disk(&*remover->environment, done));
    std::uint64_t turn = 0;
    ring->run_until([&] { return *done || turn++ == turns; });
    ended = *done && power;
    const bool removed = *done;
    Graveyard::bury(std::move(remover));
    ring.reset();
    if (power) machine.power_loss();
    bool found = false;
    for (unsigned i = 1; i <= kReplicaCount; ++i) {
      found |= !machine.folders_in("/root/replica-" + std::to_string(i) + "/disks").empty();
    }
    EXPECT_TRUE(found || machine.folders_in("/root/index").empty()) << "after " << turns;
    EXPECT_FALSE(found && removed) << "after " << turns;
  }
}

// I2, I3, I5, I8: after any crash the disk equals a prefix of its writes that holds everything
// flushed (acknowledged, when only the process died).
TEST(DiskCrash, LeavesAPrefixOfTheWritesWithEverythingFlushed) {
  const std::uint64_t seed = announce_seed();
  SimFaults failing;
  failing.write_error = 200;
  failing.datasync_error = 20;
  SimFaults slow;
  slow.slow = std::chrono::milliseconds(30);
  const std::vector<Scenario> scenarios = {
      {"the process dies", false, false, {}},
      {"power is cut", true, false, {}},
      {"the process dies and the index is lost", false, true, {}},
      {"power is cut and the index is lost", true, true, {}},
      {"power is cut, one replica fails now and then", true, false, failing},
      {"the process dies, one replica is slow", false, false, slow},
  };
  for (const Scenario& scenario : scenarios) {
    for (std::uint64_t run = 0; run < 5; ++run) {
      run_scenario(scenario, seed + run);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace clouddisk
