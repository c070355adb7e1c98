// local_segment_copy.cc: reading and mending one copy.
#include "engine/log/local_segment_store.h"

namespace clouddisk {

Task<Result<bool>> LocalSegmentStore::has(unsigned copy, SegmentSeq segment) {
  auto info = co_await ring_.stat(path(copy, segment));
  if (info) co_return true;
  if (info.error().code == Errc::kNotFound) co_return false;
  co_return info.error();
}

Task<Result<void>> LocalSegmentStore::put(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                          Buffer data) {
  auto pieces = std::make_shared<AppendData>();
  pieces->pieces.push_back({data.data(), data.size()});
  pieces->keep_alive.push_back(std::move(data));
  ++under_way_[copy];
  auto result = co_await append_on(copy, segment, block, pieces);
  if (--under_way_[copy] == 0) idle_.wake_all();
  co_return result;
}

void LocalSegmentStore::distrust_former(unsigned copy, const std::vector<SegmentSeq>& segments) {
  if (!std::exchange(distrusts_former_[copy], false)) return;
  for (const SegmentSeq segment : segments) {
    const auto open = open_.find(segment);
    const bool of_this_life = beginning_.count(segment) != 0 ||
                              (open != open_.end() && in_mask(copies_of(segment), copy));
    if (!of_this_life) flush_failed_[copy].insert(segment);
  }
}

Task<Result<void>> LocalSegmentStore::discard(unsigned copy, SegmentSeq segment) {
  files_.forget({owner_, copy, segment.value});
  auto gone = co_await ring_.remove(path(copy, segment));
  if (!gone && gone.error().code != Errc::kNotFound) co_return gone;
  flush_failed_[copy].erase(segment);
  co_return Result<void>{};
}

Task<Result<void>> LocalSegmentStore::read(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                           Buffer into, std::uint32_t* blocks_there) {
  auto outcome = std::make_shared<Outcome>(ring_);
  outcome->under_way = 1;
  outcome->may_be_short = blocks_there != nullptr;
  outcome->target = std::move(into);
  spawn(read_into(shared_from_this(), outcome, copy, segment, block));
  const TimePoint deadline = ring_.now() + options_.stall_max;
  while (outcome->under_way > 0) {
    const bool woken = co_await outcome->finished.wait_until(deadline);
    if (!woken && outcome->under_way > 0) {
      const auto bound_ms = options_.stall_max / std::chrono::milliseconds(1);
      outcome->given_up = true;
      outcome->target = Buffer();
      static_cast<void>(co_await replicas_.drop(
          ring_, copy, fmt::format("a read stalled for more than {} ms", bound_ms)));
      co_return fail(Errc::kTimedOut, "replica {}: read stalled", copy + 1);
    }
  }
  if (outcome->errors[copy]) co_return *outcome->errors[copy];
  if (blocks_there != nullptr) {
    *blocks_there = static_cast<std::uint32_t>(outcome->got / kBlockSize);
  }
  co_return Result<void>{};
}

Task<void> LocalSegmentStore::read_into(std::shared_ptr<LocalSegmentStore> self, OutcomeRef outcome,
                                        unsigned copy, SegmentSeq segment, std::uint32_t block) {
  ++self->under_way_[copy];
  FaultEffect effect;
  if (self->has_faults()) {
    FaultTarget target;
    target.replica = copy;
    target.length = outcome->target.size();
    target.has_data = true;
    effect = co_await self->faults_->meet(target);
  }
  auto opened = co_await self->file(copy, segment);
  // From here on the device may write to it, whoever gives up on that.
  Buffer into = std::move(outcome->target);
  if (outcome->given_up) {
    outcome->errors[copy] = fail(Errc::kTimedOut, "replica {}: given up", copy + 1);
  } else if (effect.error || !opened) {
    outcome->errors[copy] = effect.error ? *effect.error : opened.error();
  } else {
    const int got =
        co_await self->ring_.read(**opened, std::uint64_t{block} * kBlockSize, into.span());
    if (got < 0) {
      outcome->errors[copy] =
          fail_errno(got, "read {} at block {}", self->path(copy, segment), block);
    } else if (static_cast<std::size_t>(got) != into.size() && !outcome->may_be_short) {
      outcome->errors[copy] = fail(Errc::kCorrupt, "read {} at block {}: {} of {} bytes, cut short",
                                   self->path(copy, segment), block, got, into.size());
    } else if (effect.flip_byte) {
      flip_byte(into.span(), *effect.flip_byte);
    }
    if (got > 0) outcome->got = static_cast<std::uint64_t>(got);
  }
  outcome->under_way = 0;
  outcome->finished.wake_all();
  if (--self->under_way_[copy] == 0) self->idle_.wake_all();
}

Task<Result<void>> LocalSegmentStore::repair(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                             Buffer good) {
  auto data = std::make_shared<AppendData>();
  data->pieces.push_back({good.data(), good.size()});
  data->keep_alive.push_back(std::move(good));
  ++under_way_[copy];
  auto result = co_await append_on(copy, segment, block, data);
  if (result) result = co_await flush_on(copy, segment, 0, {});
  if (--under_way_[copy] == 0) idle_.wake_all();
  if (!result) static_cast<void>(co_await replicas_.drop(ring_, copy, result.error().message));
  co_return result;
}

Task<Result<void>> LocalSegmentStore::restore(unsigned copy, SegmentSeq segment, Buffer header) {
  auto data = std::make_shared<AppendData>();
  data->pieces.push_back({header.data(), header.size()});
  data->keep_alive.push_back(std::move(header));
  ++under_way_[copy];
  auto result = co_await create_on(copy, segment, 0, data);
  if (--under_way_[copy] == 0) idle_.wake_all();
  if (!result) static_cast<void>(co_await replicas_.drop(ring_, copy, result.error().message));
  co_return result;
}

Task<void> LocalSegmentStore::give_up(unsigned copy, std::string reason) {
  static_cast<void>(co_await replicas_.drop(ring_, copy, std::move(reason)));
}

Task<void> LocalSegmentStore::settle(unsigned copy) {
  while (under_way_[copy] > 0) co_await idle_.wait();
}

}  // namespace clouddisk
