#include "engine/ring/timer_heap.h"

namespace clouddisk {

void TimerHeap::add(TimePoint when, Completion& completion) {
  CHECK(completion.timer_slot == Completion::kNoTimer);
  heap_.push_back({});
  place(heap_.size() - 1, Entry{when, next_order_++, &completion});
  sift_up(heap_.size() - 1);
}

bool TimerHeap::remove(Completion& completion) {
  if (completion.timer_slot == Completion::kNoTimer) return false;
  CHECK(heap_[completion.timer_slot].completion == &completion);
  erase(completion.timer_slot);
  return true;
}

Completion* TimerHeap::pop_due(TimePoint now) {
  if (heap_.empty() || heap_.front().when > now) return nullptr;
  Completion* due = heap_.front().completion;
  erase(0);
  return due;
}

void TimerHeap::place(std::size_t slot, Entry entry) {
  heap_[slot] = entry;
  entry.completion->timer_slot = static_cast<std::uint32_t>(slot);
}

void TimerHeap::sift_up(std::size_t slot) {
  const Entry moving = heap_[slot];
  while (slot > 0 && moving < heap_[(slot - 1) / 2]) {
    place(slot, heap_[(slot - 1) / 2]);
    slot = (slot - 1) / 2;
  }
  place(slot, moving);
}

void TimerHeap::sift_down(std::size_t slot) {
  const Entry moving = heap_[slot];
  while (2 * slot + 1 < heap_.size()) {
    std::size_t child = 2 * slot + 1;
    if (child + 1 < heap_.size() && heap_[child + 1] < heap_[child]) ++child;
    if (!(heap_[child] < moving)) break;
    place(slot, heap_[child]);
    slot = child;
  }
  place(slot, moving);
}

void TimerHeap::erase(std::size_t slot) {
  heap_[slot].completion->timer_slot = Completion::kNoTimer;
  const Entry last = heap_.back();
  heap_.pop_back();
  if (slot == heap_.size()) return;
  place(slot, last);
  sift_up(slot);
  sift_down(last.completion->timer_slot);
}

}  // namespace clouddisk
