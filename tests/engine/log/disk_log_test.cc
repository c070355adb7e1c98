// Group commit, order, failures, flushes, epochs and seals of a log, over a store whose appends end
// when the test says.
#include "engine/log/disk_log.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <vector>

#include "engine/ring/sim_ring.h"
#include "tests/engine/log/held_store.h"
#include "tests/support/ring_ops.h"

namespace clouddisk {
namespace {

const DiskTag kDisk = disk_tag("d-log");

// What a call that runs beside the test answered, once it has.
struct Answer {
  bool done = false;
  Result<void> result;
};
using AnswerRef = std::shared_ptr<Answer>;

Task<void> collect(Task<Result<void>> task, AnswerRef answer) {
  answer->result = co_await std::move(task);
  answer->done = true;
}
Task<Result<void>> unfailing(Task<void> task) {
  co_await std::move(task);
  co_return Result<void>{};
}

class DiskLogTest : public testing::Test {
 protected:
  void SetUp() override { start({}); }
  void start(DiskLog::Options options) {
    if (log_) end();
    RecoveredLog recovered;
    auto started = ring_.block_on(
        DiskLog::start(store_, {pool_, headers_}, kDisk, recovered, WriteSeq(1), Epoch(1), options,
                       [this](const Batch& batch) { applied_.push_back(batch); }));
    ASSERT_OK(started);
    log_ = std::move(*started);
  }
  void TearDown() override { end(); }
  void end() {
    store_.hold_appends = store_.hold_flushes = false;
    store_.finish_all();
    ring_.block_on(log_->close());
    settle();  // Those that waited for the last answers let go of their buffers.
    log_.reset();
  }

  AnswerRef run(Task<Result<void>> task) {
    auto answer = std::make_shared<Answer>();
    spawn(collect(std::move(task), answer));
    settle();
    return answer;
  }
  // Everything that can happen without the test's doing has happened.
  void settle() { ring_.run_for(std::chrono::milliseconds(1)); }
  void finish(HeldStore::Call& call, Result<void> result = {}) {
    store_.finish(call, std::move(result));
    settle();
  }
  Buffer payload(std::uint32_t blocks, unsigned value) {
    Buffer buffer = clients_.try_allocate(blocks * kBlockSize);
    EXPECT_TRUE(buffer);
    std::memset(buffer.data(), static_cast<int>(value), buffer.size());
    return buffer;
  }
  AnswerRef write(std::uint64_t lba, std::uint32_t blocks = 1) {
    return run(log_->append_write(Lba(lba), payload(blocks, static_cast<unsigned>(lba))));
  }
  SegmentHeader header_of(SegmentSeq segment) {
    auto header = decode_header(store_.bytes(segment, 0, 1), kDisk, segment);
    EXPECT_OK(header);
    return header ? *header : SegmentHeader{};
  }

  SimMachine machine_{1};
  SimRing ring_{machine_};
  BufferPool pool_{ring_, 32_MiB};
  BufferPool headers_{ring_, 2_MiB};
  BufferPool clients_{ring_, 64_MiB};
  HeldStore store_{ring_};
  std::vector<Batch> applied_;
  std::unique_ptr<DiskLog> log_;
};

// --- Group commit and order ---

TEST_F(DiskLogTest, WhatArrivesWhileABatchIsUnderWayJoinsTheNext) {
  store_.hold_appends = true;
  const auto first = write(1);
  ASSERT_EQ(store_.appends.size(), 1U);
  std::vector<AnswerRef> later;
  for (std::uint64_t lba = 2; lba < 7; ++lba) later.push_back(write(lba));
  EXPECT_EQ(store_.appends.size(), 1U) << "too little to start a batch beside it";
  finish(store_.appends[0]);
  EXPECT_TRUE(first->done);
  ASSERT_EQ(store_.appends.size(), 2U);
  for (const auto& answer : later) EXPECT_FALSE(answer->done);
  finish(store_.appends[1]);
  for (const auto& answer : later) {
    EXPECT_TRUE(answer->done);
    EXPECT_OK(answer->result);
  }
  ASSERT_EQ(applied_.size(), 2U);
  EXPECT_EQ(applied_[1].entries.size(), 5U);
  EXPECT_EQ(applied_[1].parent, applied_[0].chain);
  EXPECT_EQ(log_->acked_next_write(), WriteSeq(7));
}

TEST_F(DiskLogTest, ALaterBatchThatEndsFirstIsAcknowledgedAfterTheEarlierOne) {
  store_.hold_appends = true;
  const auto first = write(1);
  const auto second = write(100, 128);  // 512 KiB: worth a batch beside it
  ASSERT_EQ(store_.appends.size(), 2U);
  finish(store_.appends[1]);
  EXPECT_FALSE(second->done);
  EXPECT_TRUE(applied_.empty());
  finish(store_.appends[0]);
  EXPECT_TRUE(first->done);
  EXPECT_TRUE(second->done);
  ASSERT_EQ(applied_.size(), 2U);
  EXPECT_EQ(applied_[0].entries[0].lba, Lba(1));
  EXPECT_EQ(applied_[1].entries[0].lba, Lba(100));
}

TEST_F(DiskLogTest, NoMoreBatchesAreUnderWayThanAllowed) {
  DiskLog::Options options;
  options.batches_in_flight = 2;
  start(options);
  store_.hold_appends = true;
  std::vector<AnswerRef> answers;
  for (std::uint64_t i = 0; i < 5; ++i) answers.push_back(write(1000 * i, 256));
  EXPECT_EQ(store_.appends.size(), 2U);
  finish(store_.appends[0]);
  EXPECT_EQ(store_.appends.size(), 3U);
}

TEST_F(DiskLogTest, AWriteKeepsThePayloadOfItsCallAndItsPlaceIsToldToTheMap) {
  Buffer blocks = payload(2, 0xab);
  const auto answer = run(log_->append_write(Lba(9), blocks));
  ASSERT_OK(answer->result);
  const LogEntry& entry = applied_.at(0).entries.at(0);
  const auto stored = store_.bytes(applied_[0].segment, entry.block, 2);
  EXPECT_EQ(std::memcmp(stored.data(), blocks.data(), stored.size()), 0);
}

TEST_F(DiskLogTest, AWriteAtOnceIsInTheBatchWhenTheCallReturns) {
  std::vector<std::byte> blocks(2 * kBlockSize, std::byte{0xab});
  const auto kept = blocks;
  auto batch = log_->try_append_write(Lba(9), blocks);
  ASSERT_NE(batch, nullptr);
  std::fill(blocks.begin(), blocks.end(), std::byte{0xee});
  const auto answer = run(log_->finish(std::move(batch)));
  ASSERT_OK(answer->result);
  const LogEntry& entry = applied_.at(0).entries.at(0);
  EXPECT_EQ(entry.lba, Lba(9));
  const auto stored = store_.bytes(applied_[0].segment, entry.block, 2);
  EXPECT_EQ(std::memcmp(stored.data(), kept.data(), stored.size()), 0);
}

TEST_F(DiskLogTest, NoWriteAtOncePassesOneThatWaitsAndNoneComesAfterTheEnd) {
  const std::vector<std::byte> block(kBlockSize);
  log_->hold();
  std::vector<AnswerRef> answers;
  for (std::uint64_t i = 0; i < 9; ++i) answers.push_back(write(1000 * i, 256));  // 8 MiB wait.
  EXPECT_EQ(log_->try_append_write(Lba(1), block), nullptr);
  log_->release();
  settle();
  for (const auto& answer : answers) EXPECT_OK(answer->result);
  ASSERT_TRUE(run(unfailing(log_->close()))->done);
  EXPECT_EQ(log_->try_append_write(Lba(1), block), nullptr);
}

TEST_F(DiskLogTest, CopiedAndReferencedPayloadOfOneBatchEachStandWhereTheirEntrySays) {
  log_->hold();
  std::vector<AnswerRef> answers = {write(1), write(200, 64), write(2), write(130, 70)};
  log_->release();
  settle();
  ASSERT_EQ(applied_.size(), 1U);
  for (const LogEntry& entry : applied_[0].entries) {
    const auto stored =
        store_.bytes(applied_[0].segment, entry.block, static_cast<std::uint32_t>(entry.count));
    EXPECT_EQ(stored.front(), static_cast<std::byte>(entry.lba.value)) << entry.lba.value;
    EXPECT_EQ(stored.back(), static_cast<std::byte>(entry.lba.value)) << entry.lba.value;
  }
}

// --- Failures ---

TEST_F(DiskLogTest, AFailedBatchFailsThoseBehindItAndTheLogGoesOnInANewSegment) {
  const auto before = write(7);
  ASSERT_OK(before->result);
  const LogPosition end = log_->acked();
  store_.hold_appends = true;
  const auto first = write(1);
  const auto second = write(100, 128);
  ASSERT_EQ(store_.appends.size(), 3U);
  store_.finish(store_.appends[2]);
  finish(store_.appends[1], fail(Errc::kReplicasLost, "on purpose"));
  EXPECT_EQ(first->result.error().code, Errc::kReplicasLost);
  EXPECT_EQ(second->result.error().code, Errc::kReplicasLost);
  EXPECT_EQ(log_->acked(), end);
  ASSERT_EQ(applied_.size(), 1U);

  store_.hold_appends = false;
  const auto after = write(3);
  ASSERT_OK(after->result);
  ASSERT_EQ(applied_.size(), 2U);
  EXPECT_GT(applied_[1].segment, end.segment);
  EXPECT_EQ(applied_[1].batch, end.next_batch) << "the failed ones never were";
  EXPECT_EQ(applied_[1].parent, end.chain);
  const SegmentHeader header = header_of(applied_[1].segment);
  EXPECT_EQ(header.start.next_batch, end.next_batch);
  EXPECT_EQ(header.start.chain, end.chain);
}

TEST_F(DiskLogTest, ASegmentBegunBehindAFailedBatchIsRemoved) {
  ASSERT_OK(write(7)->result);
  EXPECT_EQ(log_->take_begun(), std::vector<SegmentSeq>{SegmentSeq(1)});
  store_.hold_appends = true;
  const auto failing = write(1);
  auto roll = run(log_->roll());
  const auto behind = write(100, 128);
  EXPECT_TRUE(store_.has(SegmentSeq(2)));
  for (std::size_t i = 2; i < store_.appends.size(); ++i) store_.finish(store_.appends[i]);
  finish(store_.appends[1], fail(Errc::kReplicasLost, "on purpose"));
  EXPECT_FALSE(failing->result);
  EXPECT_FALSE(behind->result);
  EXPECT_TRUE(log_->take_begun().empty()) << "nothing in it was acknowledged";
  store_.hold_appends = false;
  ASSERT_OK(write(3)->result);
  EXPECT_FALSE(store_.has(SegmentSeq(2)));
  EXPECT_EQ(applied_.back().segment, SegmentSeq(3));
  EXPECT_EQ(log_->take_begun(), std::vector<SegmentSeq>{SegmentSeq(3)});
}

// I9
TEST_F(DiskLogTest, NoSpaceFailsTheWriteAndTheLogGoesOnOnceThereIsRoom) {
  store_.full = true;
  const auto refused = write(1);
  ASSERT_TRUE(refused->done);
  EXPECT_EQ(refused->result.error().code, Errc::kNoSpace);
  store_.full = false;
  ASSERT_OK(write(2)->result);
  ASSERT_EQ(applied_.size(), 1U);
  EXPECT_EQ(applied_[0].entries[0].lba, Lba(2));

  store_.full = true;  // In the middle of a segment too.
  AnswerRef last;
  for (std::uint64_t i = 0; i < 20; ++i) {
    last = write(10, 256);
    if (!last->result) break;
  }
  EXPECT_EQ(last->result.error().code, Errc::kNoSpace);
  const LogPosition end = log_->acked();
  store_.full = false;
  ASSERT_OK(write(3)->result);
  EXPECT_EQ(applied_.back().segment, end.segment);
  EXPECT_EQ(applied_.back().block, end.block) << "nothing is broken: it goes on where it was";
}

// --- Flushing (I2) ---

TEST_F(DiskLogTest, FlushMakesDurableWhatReturnedBefore) {
  ASSERT_OK(write(1)->result);
  EXPECT_TRUE(log_->durable().before(log_->acked()));
  ASSERT_OK(run(log_->flush())->result);
  EXPECT_EQ(log_->durable(), log_->acked());
  ASSERT_OK(run(log_->flush())->result);
  EXPECT_EQ(store_.flushes.size(), 1U) << "there was nothing new";
}

TEST_F(DiskLogTest, AFlushUnderWayDoesNotCoverWhatReturnedSinceItBegan) {
  ASSERT_OK(write(1)->result);
  store_.hold_flushes = true;
  const auto first = run(log_->flush());
  const LogPosition covered = log_->acked();
  ASSERT_OK(write(2)->result);
  const auto second = run(log_->flush());
  ASSERT_EQ(store_.flushes.size(), 1U);
  finish(store_.flushes[0]);
  EXPECT_TRUE(first->done);
  EXPECT_FALSE(second->done);
  EXPECT_EQ(log_->durable(), covered);
  ASSERT_EQ(store_.flushes.size(), 2U);
  finish(store_.flushes[1]);
  EXPECT_TRUE(second->done);
  EXPECT_EQ(log_->durable(), log_->acked());
}

TEST_F(DiskLogTest, AFailedFlushMakesNothingDurable) {
  ASSERT_OK(write(1)->result);
  const LogPosition before = log_->durable();
  store_.hold_flushes = true;
  const auto flush = run(log_->flush());
  finish(store_.flushes[0], fail(Errc::kReplicasLost, "on purpose"));
  EXPECT_EQ(flush->result.error().code, Errc::kReplicasLost);
  EXPECT_EQ(log_->durable(), before);
}

// --- Bounds ---

TEST_F(DiskLogTest, WritersWaitOnceTheQueueIsFull) {
  store_.hold_appends = true;
  std::vector<AnswerRef> answers;
  for (std::uint64_t i = 0; i < 30; ++i) answers.push_back(write(i * 256, 256));
  // 4 under way and 8 MiB of 1 MiB batches waiting, half a MiB of staging each.
  EXPECT_EQ(pool_.used_bytes(), 12 * 512_KiB);
  store_.hold_appends = false;
  store_.finish_all();
  settle();
  for (const auto& answer : answers) EXPECT_TRUE(answer->done);
  for (std::size_t i = 0; i < applied_.size(); ++i) {
    EXPECT_EQ(applied_[i].entries[0].lba, Lba(i * 256)) << "in the order of the calls";
  }
}

TEST_F(DiskLogTest, TooMuchUnflushedStartsAFlushAndThenHoldsWritersBack) {
  DiskLog::Options options;
  options.flush_bytes_max = 1_MiB;
  options.unflushed_bytes_max = 3_MiB;
  start(options);
  store_.hold_flushes = true;
  ASSERT_OK(write(0, 256)->result);
  EXPECT_EQ(store_.flushes.size(), 1U);
  ASSERT_OK(write(256, 256)->result);
  ASSERT_OK(write(512, 256)->result);
  const auto held = write(768, 256);
  EXPECT_FALSE(held->done);
  finish(store_.flushes[0]);
  EXPECT_TRUE(held->done);
  EXPECT_OK(held->result);
}

TEST_F(DiskLogTest, WritersHeldBackByAFlushThatFailsAreToldSo) {
  DiskLog::Options options;
  options.flush_bytes_max = 1_MiB;
  options.unflushed_bytes_max = 1_MiB;
  start(options);
  store_.hold_flushes = true;
  ASSERT_OK(write(0, 256)->result);
  const auto held = write(256, 256);
  EXPECT_FALSE(held->done);
  finish(store_.flushes[0], fail(Errc::kReplicasLost, "on purpose"));
  ASSERT_TRUE(held->done);
  EXPECT_EQ(held->result.error().code, Errc::kReplicasLost);
}

// A flush that failed while too much was unflushed must not stop the log for good: the next write
// has to find out whether it goes again.
TEST_F(DiskLogTest, AfterAFailedFlushAtTheBoundALaterWriteTriesAgain) {
  DiskLog::Options options;
  options.flush_bytes_max = 1_MiB;
  options.unflushed_bytes_max = 1_MiB;
  start(options);
  store_.hold_flushes = true;
  ASSERT_OK(write(0, 256)->result);
  finish(store_.flushes[0], fail(Errc::kReplicasLost, "on purpose"));
  store_.hold_flushes = false;
  const auto later = write(256, 256);
  ASSERT_TRUE(later->done) << "it waits for a flush that nobody makes";
  EXPECT_OK(later->result);
}

// Too few replicas: the flush that the write asks for fails before the write is queued.
TEST_F(DiskLogTest, AWriteAtTheBoundFailsWhenFlushesFailAtOnce) {
  DiskLog::Options options;
  options.flush_bytes_max = 1_MiB;
  options.unflushed_bytes_max = 1_MiB;
  start(options);
  store_.hold_flushes = true;
  ASSERT_OK(write(0, 256)->result);
  finish(store_.flushes[0], fail(Errc::kReplicasLost, "on purpose"));
  store_.hold_flushes = false;
  store_.lost = true;
  for (std::uint64_t lba : {256, 512}) {
    const auto refused = write(lba, 256);
    ASSERT_TRUE(refused->done) << lba;
    EXPECT_EQ(refused->result.error().code, Errc::kReplicasLost);
  }
  store_.lost = false;
  EXPECT_OK(write(768, 256)->result);
}

// --- Epochs ---

TEST_F(DiskLogTest, ABatchUnderWayKeepsItsEpochAndSettleWaitsForIt) {
  store_.hold_appends = true;
  const auto old = write(1);
  log_->set_epoch(Epoch(2));
  const auto settled = run(unfailing(log_->settle_epoch()));
  const auto fresh = write(2);
  EXPECT_FALSE(settled->done);
  finish(store_.appends[0]);
  EXPECT_TRUE(settled->done);
  finish(store_.appends[1]);
  ASSERT_EQ(applied_.size(), 2U);
  EXPECT_EQ(applied_[0].epoch, Epoch(1));
  EXPECT_EQ(applied_[0].entries[0].epoch, Epoch(1));
  EXPECT_EQ(applied_[1].epoch, Epoch(2));
  EXPECT_EQ(applied_[1].entries[0].epoch, Epoch(2));
}

TEST_F(DiskLogTest, NothingIsLaunchedWhileHeldAndHoldsNest) {
  log_->hold();
  log_->hold();
  const auto answer = write(1);
  EXPECT_TRUE(store_.appends.empty());
  log_->release();
  settle();
  EXPECT_FALSE(answer->done);
  log_->release();
  settle();
  EXPECT_TRUE(answer->done);
}

// --- Segments ---

TEST_F(DiskLogTest, RollEndsTheSegmentAndSealsItWithEverythingInIt) {
  ASSERT_OK(write(1, 3)->result);
  ASSERT_OK(run(log_->append_range(EntryKind::kTrim, Lba(50), 1'000'000))->result);
  ASSERT_OK(run(log_->append_range(EntryKind::kZero, Lba(10), 5))->result);
  const SegmentSeq old = log_->active_segment();
  ASSERT_OK(run(log_->roll())->result);
  EXPECT_GT(log_->active_segment(), old);
  const auto trailer = decode_trailer(store_.bytes(old, kTrailerBlock, 1), kDisk, old);
  ASSERT_OK(trailer);
  EXPECT_EQ(trailer->end.next_batch, log_->acked().next_batch);
  EXPECT_EQ(trailer->oldest_write, WriteSeq(1));
  const auto footer = decode_footer(
      store_.bytes(old, trailer->footer_block, trailer->footer_blocks), kDisk, *trailer);
  ASSERT_OK(footer);
  ASSERT_EQ(footer->entries.size(), 3U);
  EXPECT_EQ(footer->entries[0].count, 3U);
  EXPECT_EQ(footer->entries[1].kind, EntryKind::kTrim);
  EXPECT_EQ(footer->entries[1].count, 1'000'000U);
  EXPECT_EQ(footer->entries[2].kind, EntryKind::kZero);
  EXPECT_EQ(footer->checksums, applied_[0].checksums);
}

TEST_F(DiskLogTest, RollOfAnEmptyLogIsNothing) {
  ASSERT_OK(run(log_->roll())->result);
  EXPECT_EQ(log_->active_segment(), SegmentSeq(0));
}

// Its footer is still to be written: whoever took its file away meanwhile would make the seal fail
// on every copy, and the store drop them all.
TEST_F(DiskLogTest, ASegmentIsInUseUntilItsSealHasEnded) {
  ASSERT_OK(write(1)->result);
  EXPECT_EQ(log_->oldest_in_use(), SegmentSeq(1));
  store_.hold_appends = true;
  const auto roll = run(log_->roll());
  EXPECT_EQ(log_->active_segment(), SegmentSeq(2));
  EXPECT_EQ(log_->oldest_in_use(), SegmentSeq(1));
  store_.hold_appends = false;
  store_.finish_all();
  settle();
  EXPECT_TRUE(roll->done);
  EXPECT_EQ(log_->oldest_in_use(), SegmentSeq(2));
}

TEST_F(DiskLogTest, AFullSegmentIsFollowedByTheOneMadeAhead) {
  for (std::uint64_t i = 0; i < 70; ++i) ASSERT_OK(write(i * 256, 256)->result);
  EXPECT_EQ(applied_.back().segment, SegmentSeq(2));
  for (std::size_t i = 1; i < applied_.size(); ++i) {
    EXPECT_EQ(applied_[i].parent, applied_[i - 1].chain);
    EXPECT_LT(applied_[i].end_block(), kTrailerBlock);
  }
  EXPECT_OK(decode_trailer(store_.bytes(SegmentSeq(1), kTrailerBlock, 1), kDisk, SegmentSeq(1)));
}

TEST_F(DiskLogTest, RelocatedEntriesKeepTheirWriteAndReportWhereTheyWent) {
  ASSERT_OK(write(1)->result);
  std::vector<LogEntry> entries(2);
  for (std::size_t i = 0; i < 2; ++i) {
    entries[i].kind = EntryKind::kRelocatedWrite;
    entries[i].lba = Lba(40 + i);
    entries[i].count = 1;
    entries[i].write = WriteSeq(1);
    entries[i].epoch = Epoch(1);
    entries[i].from = BlockLocation::stored(SegmentSeq(1), 2);
  }
  log_->set_epoch(Epoch(5));
  SegmentSeq segment;
  const auto moved = run(log_->append_relocated(entries, segment, payload(2, 7)));
  ASSERT_OK(moved->result);
  EXPECT_EQ(segment, applied_[1].segment);
  EXPECT_EQ(entries[0].block, applied_[1].payload_start());
  EXPECT_EQ(entries[1].block, applied_[1].payload_start() + 1);
  EXPECT_EQ(applied_[1].entries[0].epoch, Epoch(1)) << "that of the write, not of the move";
  EXPECT_EQ(log_->acked_next_write(), WriteSeq(2));
}

TEST_F(DiskLogTest, CloseWaitsForWhatIsUnderWayAndRefusesWhatComesAfter) {
  store_.hold_appends = true;
  const auto under_way = write(1);
  const auto closing = run(unfailing(log_->close()));
  EXPECT_FALSE(closing->done);
  const auto late = write(2);
  ASSERT_TRUE(late->done);
  EXPECT_EQ(late->result.error().code, Errc::kShutdown);
  finish(store_.appends[0]);
  EXPECT_TRUE(closing->done);
  EXPECT_OK(under_way->result);
}

// --- Memory ---

// More disks than the pool has room for a batch of begin at one instant: each batch needs a new
// segment before it can leave and give its memory back.
TEST(DiskLogs, MoreThanThePoolHasRoomForBeginTheirSegmentsAtOnce) {
  constexpr unsigned kLogs = 9;
  SimMachine machine(1);
  SimRing ring(machine);
  BufferPool pool(ring, 2_MiB);  // of four batches
  BufferPool headers(ring, 2_MiB);
  std::vector<std::unique_ptr<HeldStore>> stores;
  std::vector<std::unique_ptr<DiskLog>> logs;
  for (unsigned i = 0; i < kLogs; ++i) {
    stores.push_back(std::make_unique<HeldStore>(ring));
    auto started = ring.block_on(DiskLog::start(*stores[i], {pool, headers}, kDisk, {}, WriteSeq(1),
                                                Epoch(1), {}, [](const Batch&) {}));
    ASSERT_OK(started);
    logs.push_back(std::move(*started));
  }
  BufferPool clients(ring, 2_MiB);
  std::vector<AnswerRef> answers;
  for (int round = 0; round < 2; ++round) {
    for (const auto& log : logs) {
      answers.push_back(std::make_shared<Answer>());
      spawn(collect(log->append_write(Lba(1), clients.try_allocate(kBlockSize)), answers.back()));
    }
  }
  ring.run_for(std::chrono::seconds(1));
  for (const auto& answer : answers) {
    ASSERT_TRUE(answer->done) << "all of them wait for memory that they hold";
    EXPECT_OK(answer->result);
  }
  for (const auto& log : logs) ring.block_on(log->close());
}

}  // namespace
}  // namespace clouddisk
