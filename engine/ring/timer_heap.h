// timer_heap.h: the timers of one ring: a binary heap over completions that stay where they are.
// Shared by the real and the simulated ring. No allocation in steady state.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/ring/ring.h"

namespace clouddisk {

class TimerHeap {
 public:
  void add(TimePoint when, Completion& completion);
  // False: it is not in the heap (fired, or never added).
  bool remove(Completion& completion);
  bool empty() const { return heap_.empty(); }
  TimePoint next() const { return heap_.front().when; }  // not empty
  // Takes the earliest timer out if it is due at `now`; equal times leave in the order of adding.
  Completion* pop_due(TimePoint now);

 private:
  struct Entry {
    TimePoint when;
    std::uint64_t order;
    Completion* completion;
    bool operator<(const Entry& other) const {
      return when != other.when ? when < other.when : order < other.order;
    }
  };
  void place(std::size_t slot, Entry entry);
  void sift_up(std::size_t slot);
  void sift_down(std::size_t slot);
  void erase(std::size_t slot);

  std::vector<Entry> heap_;
  std::uint64_t next_order_ = 0;
};

}  // namespace clouddisk
