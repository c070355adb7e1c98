// A disk and its snapshots against a model: writes, trims, snapshots, captures that are cut off and
// go on, deletion of any of them, rollbacks, disks made from a snapshot, hydration, repacking,
// restarts, lost indexes. Every byte of every snapshot and disk is compared. MODEL_SECONDS=3600
// runs it for an hour with ever new seeds.
#include "snapshot/diff.h"
#include "tests/snapshot/volume_fixture.h"
#include "tests/support/histories.h"

namespace clouddisk::snapshot {
namespace {

// One history from an empty disk until everything was let go.
class VolumeHistory : public VolumeModel {
 public:
  void run() {
    SetUp();
    if (!HasFatalFailure()) live();
    TearDown();
  }

 private:
  void TestBody() override {}  // Not a test of its own.
  void live();
};

void VolumeHistory::live() {
  for (int step = 0; step < 400 && !HasFatalFailure(); ++step) {
    const std::uint64_t what = random_.below(100);
    if (what < 38) {
      write();
    } else if (what < 48) {
      trim();
    } else if (what < 58) {
      take();
    } else if (what < 68) {
      capture();
    } else if (what < 75) {
      drop();
    } else if (what < 79) {
      roll_back();
    } else if (what < 82) {
      hydrate();
    } else if (what < 84) {
      restart();
    } else if (what < 87) {
      repack();
    } else {
      look(false);
    }
  }
  if (HasFatalFailure()) return;
  look(true);
  while (!HasFatalFailure() && oldest_uncaptured() != nullptr) capture();
  look(true);
  if (HasFatalFailure()) return;
  // With nothing left that needs them, all of it goes.
  ring_->block_on(volume_->forget_base(storage_));
  bases_.clear();
  current_ = 0;
  while (!taken_.empty() && !HasFatalFailure()) drop();
  expect_no_waste();
}

TEST(VolumeHistories, EverySnapshotKeepsItsContent) {
  run_histories([] {
    VolumeHistory history;
    history.run();
  });
}

TEST_F(VolumeModel, ASecondSnapshotStoresOnlyWhatChanged) {
  for (int i = 0; i < 40; ++i) write();
  take();
  capture();
  while (oldest_uncaptured() != nullptr) capture();
  // The same content again, one block of new content, one block of zeros.
  Buffer data = ring_->block_on(machine_->client_buffers.allocate(kBlockSize));
  const std::uint64_t lba = 700;
  fill_block(data.data(), next_);
  now_[lba] = next_++;
  ASSERT_TRUE(ring_->block_on(disk()->write(lba * kBlockSize, data, false)));
  for (std::uint64_t same = 0; same < 60; ++same) {
    Buffer again = ring_->block_on(machine_->client_buffers.allocate(kBlockSize));
    fill_block(again.data(), now_[same]);
    ASSERT_TRUE(ring_->block_on(disk()->write(same * kBlockSize, std::move(again), false)));
  }
  take();
  Taken* taken = oldest_uncaptured();
  ASSERT_NE(taken, nullptr);
  auto cursor = ring_->block_on(volume_->capture(taken->state.seq, [](const auto&) {}));
  ASSERT_TRUE(cursor) << cursor.error().message;
  EXPECT_EQ(cursor->changed_bytes, kBlockSize);
  taken->state.captured = true;
  volume_->captured(taken->state.seq);
  reference_ = {taken->state.seq, taken->state.storage, taken->state.epoch};
  look(true);
}

TEST_F(VolumeModel, AfterARollbackTheNextSnapshotIsIncremental) {
  for (int i = 0; i < 60; ++i) write();
  take();
  while (oldest_uncaptured() != nullptr) capture();
  for (int i = 0; i < 60; ++i) write();
  take();
  while (oldest_uncaptured() != nullptr) capture();
  const auto& [first, taken] = *taken_.begin();
  make_storage();
  bases_[storage_] = first;
  open_storage(storage_);
  current_ = first;
  now_ = taken.content;
  hydrate();
  take();
  Taken* third = oldest_uncaptured();
  auto cursor = ring_->block_on(volume_->capture(third->state.seq, [](const auto&) {}));
  ASSERT_TRUE(cursor) << cursor.error().message;
  EXPECT_EQ(cursor->changed_bytes, 0U) << "what was hydrated is no change";
  third->state.captured = true;
  volume_->captured(third->state.seq);
  reference_ = {third->state.seq, third->state.storage, third->state.epoch};
  look(true);
}

TEST_F(VolumeModel, WhatNoSnapshotShowsGivesItsSpaceBack) {
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 40; ++i) write();
    take();
    while (oldest_uncaptured() != nullptr) capture();
  }
  current_ = 0;
  reference_ = {};
  volume_->set_reference({});
  while (!taken_.empty() && !HasFatalFailure()) drop();
  expect_no_waste();
  auto chain = ring_->block_on(volume_->chain());
  ASSERT_TRUE(chain);
  auto extents = ring_->block_on((*chain)->pack().extents(0, 1_GiB, 10));
  ASSERT_TRUE(extents);
  EXPECT_EQ(extents->size(), 1U);
  EXPECT_EQ(extents->front().state, ExtentState::kHole);
}

// What a disk borrowed at the reference has no place of its own there: once nothing is borrowed any
// more, a block trimmed since looks like one that never was.
TEST_F(VolumeModel, ATrimAfterTheLastBorrowedBlockCameIsInTheNextSnapshot) {
  for (int i = 0; i < 60; ++i) write();
  take();
  capture_whole();
  const auto& [first, taken] = *taken_.begin();
  go_back_to(first);
  take();
  capture_whole();
  ASSERT_TRUE(ring_->block_on(disk()->hydrate(0, kSize)));
  ring_->block_on(volume_->forget_base(storage_));
  bases_.clear();
  constexpr std::uint64_t kPageBytes = kPageBlocks * kBlockSize;
  ASSERT_TRUE(ring_->block_on(disk()->trim(kPageBytes, kPageBytes, false)));
  std::fill_n(now_.begin() + kPageBlocks, kPageBlocks, 0);
  take();
  capture_whole();
  look(true);
}

TEST_F(VolumeModel, AnUnalignedReadOfTheLargestSizeOverASnapshotBeingCaptured) {
  for (int i = 0; i < 60; ++i) write();
  take();
  ASSERT_TRUE(ring_->block_on(volume_->source(taken_.begin()->first)));
  go_back_to(taken_.begin()->first);
  auto data = ring_->block_on(disk()->read(512, BlockDevice::kTransferMax));
  ASSERT_TRUE(data) << data.error().message;
  std::vector<std::byte> block(kBlockSize);
  fill_block(block.data(), now_[1]);
  EXPECT_EQ(std::memcmp(data->data() + kBlockSize - 512, block.data(), kBlockSize), 0);
}

Task<void> drop_meanwhile(Volume* volume, std::uint64_t seq, bool* dropped) {
  static_cast<void>(co_await volume->drop(seq));
  *dropped = true;
}

TEST_F(VolumeModel, DeletedDuringTheLastStepOfItsCapture) {
  for (int i = 0; i < 60; ++i) write();
  take();
  const std::uint64_t seq = oldest_uncaptured()->state.seq;
  auto source = ring_->block_on(volume_->source(seq));
  ASSERT_TRUE(source) << source.error().message;
  bool dropped = false;
  auto captured = ring_->block_on(volume_->capture(seq, [&](const CaptureProgress& progress) {
    if (progress.pages_done != progress.pages_total) return;
    spawn(drop_meanwhile(volume_.get(), seq, &dropped));
  }));
  ring_->run_until([&dropped] { return dropped; });
  ASSERT_FALSE(captured);
  EXPECT_EQ(captured.error().code, Errc::kShutdown);
  taken_.clear();
  // Who still holds it sees that it is gone, and never what was before it.
  std::vector<std::byte> block(kBlockSize);
  auto read = ring_->block_on((*source)->read(*ring_, Lba(0), block));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::kNotFound);
  EXPECT_FALSE((*source)->next_page(0));
}

TEST_F(VolumeModel, ARolledBackDiskIsNotComparedByPlaceWithWhatItsFormerStorageHad) {
  for (int i = 0; i < 60; ++i) write();
  take();
  capture_whole();
  const std::uint64_t first = last_seq_;
  for (int i = 0; i < 60; ++i) write();
  take();
  capture_whole();
  const std::uint64_t second = last_seq_;
  EXPECT_TRUE(volume_->is_reference(second, *disk()));
  EXPECT_FALSE(volume_->is_reference(first, *disk()));
  go_back_to(first);
  EXPECT_FALSE(volume_->is_reference(second, *disk()));
  auto older = ring_->block_on(volume_->source(second));
  ASSERT_TRUE(older);
  Diff diff(*older, *disk(), same_as_reference(disk(), disk()->reference()));
  auto extents = ring_->block_on(diff.extents(0, kSize, 100'000));
  ASSERT_TRUE(extents) << extents.error().message;
  std::uint64_t lba = 0;
  std::uint64_t wrong = 0;
  for (const DiffExtent& extent : *extents) {
    for (std::uint64_t i = 0; i < extent.length / kBlockSize; ++i, ++lba) {
      const bool differs = now_[lba] != taken_.at(second).content[lba];
      if (differs != extent.changed) ++wrong;
    }
  }
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace clouddisk::snapshot
