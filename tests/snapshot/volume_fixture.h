// volume_fixture.h: a disk and its snapshots beside a model of both: what each block holds. Steps
// for tests to take, and the comparison of every byte.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <vector>

#include "engine/base/random.h"
#include "snapshot/snapshot_device.h"
#include "snapshot/volume.h"
#include "tests/engine/disk/disk_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk::snapshot {
namespace fs = std::filesystem;

inline constexpr std::uint64_t kSize = 6_MiB + 5 * kBlockSize;
inline constexpr std::uint64_t kBlocks = kSize / kBlockSize;

// What each block holds: a number that decides all of its bytes; 0 for zeros.
using Content = std::vector<std::uint64_t>;

inline void fill_block(std::byte* block, std::uint64_t value) {
  // Half of it compresses, half does not.
  Random random(value);
  for (std::size_t i = 0; i < kBlockSize; i += 8) {
    const std::uint64_t word = value == 0 ? 0 : i < kBlockSize / 2 ? value : random.next();
    std::memcpy(block + i, &word, 8);
  }
}

struct Taken {
  SnapshotState state;
  Content content;
};

class VolumeModel : public testing::Test {
 protected:
  void SetUp() override {
    auto ring = UringRing::create({});
    ASSERT_TRUE(ring) << ring.error().message;
    ring_ = std::move(*ring);
    options_.index_root = root_.path() + "/index";
    options_.disk.checkpoint_bytes = 4_MiB;
    options_.chain.repack_frames_min = 3;  // often, beside everything else
    start();
    make_storage();
    open();
  }
  void TearDown() override {
    stop();
    if (!HasFailure()) return;
    for (const std::string& line : trace_) std::fprintf(stderr, "  %s\n", line.c_str());
  }
  // What was done, shown when it went wrong.
  template <class... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    trace_.push_back(fmt::format(format, std::forward<Args>(args)...));
    if (trace_.size() > 100) trace_.pop_front();
  }

  void start() {
    machine_ = std::make_unique<Machine>(*ring_, root_.path());
    ASSERT_FALSE(machine_->error) << machine_->error->message;
    volume_ = std::make_unique<Volume>(*machine_->environment, machine_->pack_environment(),
                                       "sl-test0000000000000001", options_);
    for (const auto& [seq, taken] : taken_) volume_->know(taken.state);
    volume_->set_reference(reference_);
  }
  void make_storage() {
    storage_ = "d-test." + std::to_string(++storages_made_);
    const StorageState state{storage_, kSize, nullptr, 0};
    auto made = ring_->block_on(Volume::create_storage(*machine_->environment, options_, state));
    ASSERT_TRUE(made) << made.error().message;
  }
  // The current storage, and those that captures still need.
  void open() {
    for (const auto& [seq, taken] : taken_) {
      if (taken.state.captured || taken.state.storage == storage_) continue;
      open_storage(taken.state.storage);
    }
    open_storage(storage_);
  }
  void open_storage(const std::string& name) {
    if (volume_->find(name)) return;
    StorageState state{name, kSize, nullptr, 0};
    if (const auto based = bases_.find(name); based != bases_.end()) {
      auto source = ring_->block_on(volume_->source(based->second));
      ASSERT_TRUE(source) << source.error().message;
      state.base = *source;
      state.base_seq = based->second;
    }
    auto opened = ring_->block_on(volume_->open(state));
    ASSERT_TRUE(opened) << opened.error().message;
  }
  std::shared_ptr<Disk> disk() { return volume_->find(storage_); }
  void stop() {
    if (!volume_) return;
    clones_.clear();
    auto closed = ring_->block_on(volume_->close());
    EXPECT_TRUE(closed) << closed.error().message;
    volume_.reset();
    machine_.reset();
  }
  void restart() {
    const bool lose = random_.one_in(3);
    note("restart, {}", lose ? "indexes lost" : "indexes kept");
    stop();
    if (lose) fs::remove_all(root_.path() + "/index");
    start();
    open();
  }

  std::pair<std::uint64_t, std::uint64_t> range(std::uint64_t longest) {
    const std::uint64_t first = random_.below(kBlocks);
    return {first, 1 + random_.below(std::min(longest, kBlocks - first))};
  }
  void write() {
    const auto [first, count] = range(random_.one_in(4) ? 256 : 6);
    note("write {}+{}", first, count);
    Buffer data = ring_->block_on(machine_->client_buffers.allocate(count * kBlockSize));
    for (std::uint64_t i = 0; i < count; ++i) {
      // Now and then what is there already, or zeros: no change worth storing.
      const std::uint64_t value =
          random_.one_in(6) ? now_[first + i] : (random_.one_in(8) ? 0 : next_++);
      fill_block(data.data() + i * kBlockSize, value);
      now_[first + i] = value;
    }
    auto written = ring_->block_on(disk()->write(first * kBlockSize, std::move(data), false));
    ASSERT_TRUE(written) << written.error().message;
  }
  void trim() {
    const auto [first, count] = range(random_.one_in(4) ? kBlocks : 30);
    note("trim {}+{}", first, count);
    auto done = ring_->block_on(disk()->trim(first * kBlockSize, count * kBlockSize, false));
    ASSERT_TRUE(done) << done.error().message;
    std::fill_n(now_.begin() + static_cast<std::ptrdiff_t>(first), count, 0);
  }
  void take() {
    if (taken_.size() >= 9) return;
    auto view = ring_->block_on(disk()->freeze());
    ASSERT_TRUE(view) << view.error().message;
    Taken taken;
    taken.state.seq = ++last_seq_;
    taken.state.size_bytes = kSize;
    taken.state.storage = storage_;
    taken.state.epoch = *view;
    taken.state.parent = current_;
    taken.content = now_;
    current_ = taken.state.seq;
    note("snapshot {} of {}, parent {}, epoch {}", last_seq_, storage_, taken.state.parent,
         view->value);
    volume_->know(taken.state);
    taken_[taken.state.seq] = std::move(taken);
  }
  Taken* oldest_uncaptured() {
    for (auto& [seq, taken] : taken_) {
      if (!taken.state.captured) return &taken;
    }
    return nullptr;
  }
  // All of it, or a part and then the end of the process.
  void capture() {
    Taken* taken = oldest_uncaptured();
    if (taken == nullptr) return;
    const bool cut_off = random_.one_in(3);
    const std::uint64_t stop_after = random_.below(6);
    auto cursor =
        ring_->block_on(volume_->capture(taken->state.seq, [&](const CaptureProgress& progress) {
          if (cut_off && progress.pages_done >= stop_after) volume_->stop_captures();
        }));
    note("capture {}: {}", taken->state.seq, cursor ? "done" : "cut off");
    if (!cursor) {
      ASSERT_EQ(cursor.error().code, Errc::kShutdown) << cursor.error().message;
      restart();
      return;
    }
    taken->state.captured = true;
    volume_->captured(taken->state.seq);
    reference_ = {taken->state.seq, taken->state.storage, taken->state.epoch};
    release_unneeded();
    if (cut_off) restart();
  }
  void capture_whole() {
    Taken* taken = oldest_uncaptured();
    ASSERT_NE(taken, nullptr);
    auto cursor = ring_->block_on(volume_->capture(taken->state.seq, [](const auto&) {}));
    ASSERT_TRUE(cursor) << cursor.error().message;
    captured_bytes_ = cursor->changed_bytes;
    taken->state.captured = true;
    volume_->captured(taken->state.seq);
    reference_ = {taken->state.seq, taken->state.storage, taken->state.epoch};
  }
  void release_unneeded() {
    for (int number = 1; number <= storages_made_; ++number) {
      const std::string name = "d-test." + std::to_string(number);
      if (name == storage_ || !volume_->find(name)) continue;
      const bool needed = std::any_of(taken_.begin(), taken_.end(), [&](const auto& entry) {
        return !entry.second.state.captured && entry.second.state.storage == name;
      });
      if (needed) continue;
      auto closed = ring_->block_on(volume_->release(name));
      ASSERT_TRUE(closed) << closed.error().message;
      auto gone = ring_->block_on(Volume::remove_storage(*machine_->environment, options_, name));
      ASSERT_TRUE(gone) << gone.error().message;
      bases_.erase(name);
    }
  }
  bool is_needed(std::uint64_t seq) const {
    if (seq == current_) return true;
    for (const auto& [name, base] : bases_) {
      if (base == seq) return true;
    }
    for (const auto& [other, taken] : taken_) {
      if (!taken.state.captured && taken.state.parent == seq) return true;
    }
    return false;
  }
  std::map<std::uint64_t, Taken>::iterator any() {
    auto it = taken_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(taken_.size())));
    return it;
  }
  void drop() {
    if (taken_.empty()) return;
    const auto it = any();
    if (is_needed(it->first)) return;
    clones_.erase(it->first);
    const std::uint64_t seq = it->first;
    note("delete {}", seq);
    taken_.erase(it);
    if (reference_.seq == seq) reference_ = {};
    auto gone = ring_->block_on(volume_->drop(seq));
    ASSERT_TRUE(gone) << gone.error().message;
    release_unneeded();
  }
  void go_back_to(std::uint64_t seq) {
    make_storage();
    bases_[storage_] = seq;
    open_storage(storage_);
    current_ = seq;
    now_ = taken_.at(seq).content;
  }
  void roll_back() {
    if (taken_.empty()) return;
    const std::uint64_t seq = any()->first;
    const std::string old = storage_;
    go_back_to(seq);
    note("roll back to {}: {}", seq, storage_);
    release_unneeded();
  }
  // Afterwards more than half of what frames hold is shown.
  void repack() {
    auto chain = ring_->block_on(volume_->chain());
    ASSERT_TRUE(chain) << chain.error().message;
    auto count = ring_->block_on((*chain)->repack(1));
    ASSERT_TRUE(count) << count.error().message;
    note("repack: {} frames", *count);
    auto usage = ring_->block_on((*chain)->usage());
    ASSERT_TRUE(usage) << usage.error().message;
    EXPECT_LE(usage->held_blocks, 2 * usage->shown_blocks);
  }
  void hydrate() {
    const auto [first, count] = range(700);
    note("hydrate {}+{}", first, count);
    auto brought = ring_->block_on(disk()->hydrate(first * kBlockSize, count * kBlockSize));
    ASSERT_TRUE(brought) << brought.error().message;
  }

  static void expect_blocks(const Content& content, std::uint64_t first, const Buffer& got,
                            const std::string& what) {
    std::vector<std::byte> expected(kBlockSize);
    for (std::uint64_t i = 0; i < got.size() / kBlockSize; ++i) {
      fill_block(expected.data(), content[first + i]);
      ASSERT_EQ(std::memcmp(expected.data(), got.data() + i * kBlockSize, kBlockSize), 0)
          << what << ", block " << first + i << ", should be " << content[first + i];
    }
  }
  void look(bool everything) {
    const auto [from, size] = range(256);
    const std::uint64_t begin = everything ? 0 : from;
    const std::uint64_t end = everything ? kBlocks : from + size;
    for (std::uint64_t at = begin; at < end; at += 256) {
      const std::uint64_t count = std::min<std::uint64_t>(256, end - at);
      const auto length = static_cast<std::uint32_t>(count * kBlockSize);
      auto data = ring_->block_on(disk()->read(at * kBlockSize, length));
      ASSERT_TRUE(data) << data.error().message;
      expect_blocks(now_, at, *data, "disk");
      for (const auto& [seq, taken] : taken_) look_at(seq, taken, at, length);
    }
  }
  void look_at(std::uint64_t seq, const Taken& taken, std::uint64_t at, std::uint32_t length) {
    auto& device = clones_[seq];
    if (!device) {
      auto source = ring_->block_on(volume_->source(seq));
      ASSERT_TRUE(source) << source.error().message;
      device = std::make_shared<SnapshotDevice>(*source, machine_->client_buffers);
    }
    const std::string what = fmt::format("snapshot {}{}", seq, taken.state.captured ? "" : "*");
    auto data = ring_->block_on(device->read(at * kBlockSize, length));
    ASSERT_TRUE(data) << what << ": " << data.error().message;
    expect_blocks(taken.content, at, *data, what);
    auto extents = ring_->block_on(device->extents(at * kBlockSize, length, 1000));
    ASSERT_TRUE(extents) << extents.error().message;
    std::uint64_t lba = at;
    for (const Extent& extent : *extents) {
      for (std::uint64_t i = 0; i < extent.length / kBlockSize; ++i, ++lba) {
        EXPECT_TRUE(extent.state == ExtentState::kData || taken.content[lba] == 0) << what;
      }
    }
    EXPECT_EQ(lba, at + length / kBlockSize);
  }
  // Nothing is kept that no snapshot shows.
  void expect_no_waste() {
    for (auto it = taken_.begin(); it != taken_.end();) {
      const std::uint64_t seq = (it++)->first;
      if (!taken_.at(seq).state.captured) return;
    }
    auto chain = ring_->block_on(volume_->chain());
    ASSERT_TRUE(chain) << chain.error().message;
    if (!taken_.empty()) return;
    auto usage = ring_->block_on((*chain)->usage());
    ASSERT_TRUE(usage) << usage.error().message;
    EXPECT_EQ(usage->frame_bytes, 0U);
  }

  Random random_{announce_seed()};
  TemporaryFolder root_;
  Volume::Options options_;
  std::unique_ptr<UringRing> ring_;
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<Volume> volume_;
  std::string storage_;
  int storages_made_ = 0;
  Content now_ = Content(kBlocks);
  std::map<std::uint64_t, Taken> taken_;
  std::uint64_t captured_bytes_ = 0;  // by the last capture_whole()
  std::map<std::uint64_t, std::shared_ptr<SnapshotDevice>> clones_;
  std::map<std::string, std::uint64_t> bases_;  // storage to sequence
  ReferencePoint reference_;
  std::uint64_t current_ = 0;  // sequence that the disk's content descends from
  std::uint64_t last_seq_ = 0;
  std::uint64_t next_ = 1;
  std::deque<std::string> trace_;
};

}  // namespace clouddisk::snapshot
