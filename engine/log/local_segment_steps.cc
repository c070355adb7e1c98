// local_segment_steps.cc: one step on several copies at once, what faults do to it, and what
// becomes of copies that fail it.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "engine/base/variant.h"
#include "engine/log/local_segment_store.h"

namespace clouddisk {
namespace {

// The first `size` bytes of an append in memory of its own, to be damaged for one copy alone.
struct PrivateAppend : AppendData {
  PrivateAppend(const AppendData& original, std::uint64_t size)
      : memory(static_cast<std::byte*>(std::aligned_alloc(kBlockSize, size))) {
    CHECK(memory != nullptr && size > 0 && size <= original.size());
    std::uint64_t done = 0;
    for (const iovec& piece : original.pieces) {
      const std::uint64_t part = std::min<std::uint64_t>(piece.iov_len, size - done);
      std::memcpy(memory.get() + done, piece.iov_base, part);
      done += part;
    }
    pieces.push_back({memory.get(), size});
  }
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::byte, Free> memory;
};

}  // namespace

Task<LocalSegmentStore::OutcomeRef> LocalSegmentStore::on_copies(ReplicaMask copies, Step step,
                                                                 SegmentSeq segment,
                                                                 std::uint32_t block,
                                                                 DataRef data) {
  auto outcome = std::make_shared<Outcome>(ring_);
  outcome->tried = copies;
  outcome->under_way = static_cast<unsigned>(std::popcount(copies));
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(copies, copy)) continue;
    spawn(run_step(shared_from_this(), outcome, copy, step, segment, block, data));
  }
  const TimePoint deadline = ring_.now() + options_.stall_max;
  while (outcome->under_way > 0) {
    if (broken(Variant::kAcknowledgeEarly) && outcome->succeeded != 0 && data) break;
    const bool woken = co_await outcome->finished.wait_until(deadline);
    if (!woken && outcome->under_way > 0) break;
  }
  if (outcome->under_way > 0) {
    // What hangs on purpose is not carried out any more, so it needs no memory.
    outcome->given_up = true;
    outcome->held = {};
  }
  co_return outcome;
}

Task<void> LocalSegmentStore::run_step(std::shared_ptr<LocalSegmentStore> self, OutcomeRef outcome,
                                       unsigned copy, Step step, SegmentSeq segment,
                                       std::uint32_t block, DataRef data) {
  ++self->under_way_[copy];
  Result<void> result;
  if (self->has_faults()) {
    result = co_await self->faulty_step(outcome, copy, step, segment, block, std::move(data));
  } else {
    result = co_await ((*self).*step)(copy, segment, block, std::move(data));
  }
  if (result) {
    outcome->succeeded |= 1U << copy;
  } else {
    outcome->errors[copy] = result.error();
  }
  if (--outcome->under_way == 0) outcome->finished.wake_all();
  if (broken(Variant::kAcknowledgeEarly)) outcome->finished.wake_all();
  if (--self->under_way_[copy] == 0) self->idle_.wake_all();
}

FaultPlan& LocalSegmentStore::faults() {
  if (!faults_) faults_ = std::make_unique<FaultPlan>(ring_);
  return *faults_;
}

Task<void> LocalSegmentStore::end_faults() {
  if (!faults_) co_return;
  faults_->clear();
  static_cast<void>(co_await faults_->wait_for_passes(ring_.now() + options_.stall_max));
}

Task<Result<void>> LocalSegmentStore::faulty_step(OutcomeRef outcome, unsigned copy, Step step,
                                                  SegmentSeq segment, std::uint32_t block,
                                                  DataRef data) {
  const bool appends = step == &LocalSegmentStore::append_on;
  const bool flushes = step == &LocalSegmentStore::flush_on;
  const bool takes_space =
      step == &LocalSegmentStore::create_on || step == &LocalSegmentStore::allocate_on;
  if (!appends && !flushes && !takes_space) {
    co_return co_await (this->*step)(copy, segment, block, std::move(data));
  }
  FaultTarget target;
  target.op = flushes ? kFaultFlush : kFaultWrite;
  target.replica = copy;
  target.length = appends ? data->size() : 0;
  target.has_data = appends;
  target.may_lose = appends || flushes;
  target.takes_space = takes_space;
  outcome->held[copy] = std::move(data);
  const FaultEffect effect = co_await faults_->meet(target);
  data = std::move(outcome->held[copy]);
  if (effect.error) co_return *effect.error;
  if (outcome->given_up) co_return fail(Errc::kTimedOut, "replica {}: given up", copy + 1);
  if (effect.drop) co_return Result<void>{};
  if (!effect.lost.empty() || effect.flip_byte) {
    // Direct writes are of whole blocks, so that is where an append tears.
    std::uint64_t kept = data->size();
    for (const FaultRange& gone : effect.lost) kept = std::min(kept, gone.begin);
    kept = align_down(kept, kBlockSize);
    if (kept == 0) co_return Result<void>{};
    auto damaged = std::make_shared<PrivateAppend>(*data, kept);
    if (effect.flip_byte && *effect.flip_byte < kept) {
      flip_byte({damaged->memory.get(), kept}, *effect.flip_byte);
    }
    data = std::move(damaged);
  }
  co_return co_await (this->*step)(copy, segment, block, std::move(data));
}

// A full copy is dropped only where that helps: when it is full alone, on a device of its own.
// Where copies share a filesystem, the others are about to be full too, and the write has to wait
// (I9).
bool LocalSegmentStore::full_copies_may_drop(const Outcome& outcome, ReplicaMask full) const {
  const ReplicaMask rest = replicas_.in_sync_mask() & outcome.succeeded;
  if (static_cast<unsigned>(std::popcount(rest)) < kWriteQuorum) return false;
  for (unsigned a = 0; a < kReplicaCount; ++a) {
    for (unsigned b = 0; b < kReplicaCount; ++b) {
      // What is full on purpose is full alone.
      if (has_faults() && faults_->makes_full(a)) continue;
      const bool both = in_mask(full, a) && in_mask(rest, b);
      if (both && replicas_.device(a) == replicas_.device(b)) return false;
    }
  }
  return true;
}

Task<Result<void>> LocalSegmentStore::conclude(OutcomeRef outcome) {
  if (broken(Variant::kAcknowledgeEarly) && outcome->under_way > 0 && outcome->succeeded != 0) {
    co_return Result<void>{};
  }
  const ReplicaMask failed = outcome->tried & ~outcome->succeeded;
  if (failed == 0 && replicas_.can_write()) co_return Result<void>{};
  ReplicaMask full = 0;
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (in_mask(failed, copy) && outcome->errors[copy] &&
        outcome->errors[copy]->code == Errc::kNoSpace) {
      full |= 1U << copy;
    }
  }
  if (full != 0 && !full_copies_may_drop(*outcome, full)) {
    for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
      if (in_mask(full, copy)) co_return *outcome->errors[copy];
    }
  }
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if (!in_mask(failed, copy)) continue;
    std::string reason = outcome->errors[copy]
                             ? outcome->errors[copy]->message
                             : fmt::format("stalled for more than {} ms",
                                           options_.stall_max / std::chrono::milliseconds(1));
    if (auto dropped = co_await replicas_.drop(ring_, copy, std::move(reason)); !dropped) {
      co_return dropped.error();
    }
  }
  // Of those that were asked: one admitted meanwhile has the rest from resync.
  const ReplicaMask in_sync = replicas_.in_sync_mask() & outcome->tried;
  if (!replicas_.can_write() || in_sync == 0 || (in_sync & ~outcome->succeeded) != 0) {
    co_return fail(Errc::kReplicasLost, "{} of {} replicas in sync, {} needed to write",
                   std::popcount(in_sync), kReplicaCount, kWriteQuorum);
  }
  co_return Result<void>{};
}

}  // namespace clouddisk
