// range_lock.h: keeps a read-modify-write of part of a block apart from other writes of that block.
// Whole-block writes share; a partial write excludes whatever overlaps it. In order of arrival.
// Thread: one ring's.
#pragma once

#include <cstdint>

#include "engine/base/units.h"
#include "engine/ring/sync.h"

namespace clouddisk {

class RangeLock {
 public:
  explicit RangeLock(Ring& ring) : changed_(ring) {}
  ~RangeLock() { CHECK(first_ == nullptr); }
  // Somebody holds a range alone, or waits to.
  bool has_exclusive() const { return exclusive_count_ > 0; }

  // Held from acquire() to destruction. Stays where it is (in a coroutine's frame).
  class Hold {
   public:
    Hold(RangeLock& lock, Lba first, std::uint64_t count, bool exclusive);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    // Places in the order of construction; waits for what came before and conflicts.
    Task<void> acquire();
    bool ready() const { return !lock_.conflicts(*this); }

   private:
    friend class RangeLock;
    RangeLock& lock_;
    std::uint64_t first_;
    std::uint64_t last_;
    bool exclusive_;
    Hold* next_ = nullptr;
    Hold* previous_ = nullptr;
  };

 private:
  bool conflicts(const Hold& hold) const;

  Hold* first_ = nullptr;  // in order of arrival
  Hold* last_ = nullptr;
  std::uint64_t exclusive_count_ = 0;
  Signal changed_;
};

}  // namespace clouddisk
