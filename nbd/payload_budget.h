// payload_budget.h: who may hold how much memory for payloads and answers, among the sessions that
// share one pool.
//
// Of n sessions that hold or want memory each gets at most 1/(n+1) of it and at most what is left
// for all others, so that a slow disk or a client that does not take its answers leaves room; a
// single grant is always possible. Any number of clients that take no answers leave room for small
// requests. What is larger may have to queue, and then of the clients that move no byte for
// `stall_max` while holding memory the one that stalls longest is disconnected, again and again.
//
// Thread: one ring's; constructor and destructor anywhere.
#pragma once

#include <cstdint>

#include "engine/ring/buffer_pool.h"
#include "engine/ring/sync.h"
#include "nbd/stream.h"

namespace clouddisk::nbd {

class PayloadBudget {
 public:
  class Share;

  PayloadBudget(Ring& ring, std::uint64_t bytes, Duration stall_max);
  PayloadBudget(const PayloadBudget&) = delete;
  PayloadBudget& operator=(const PayloadBudget&) = delete;
  ~PayloadBudget();

  std::uint64_t size_bytes() const { return size_; }
  std::uint64_t free_bytes() const { return free_; }

 private:
  struct Waiter;
  bool has_room_for(std::uint64_t bytes) const;
  bool fits(const Share& share, std::uint64_t bytes) const;
  void take(Share& share, std::uint64_t bytes);
  void grant_waiting();
  void evict_stalled(const Share& waiting);

  Ring& ring_;
  const std::uint64_t size_;
  const Duration stall_max_;
  std::uint64_t free_;
  std::uint64_t active_ = 0;  // shares that hold or want memory
  TimePoint next_look_{};     // for stalled clients
  Share* shares_ = nullptr;   // a circle, in the order in which they are served
};

// One session's part. Thread: the budget's ring.
class PayloadBudget::Share {
 public:
  // Borrows both.
  Share(PayloadBudget& budget, Stream& stream);
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;
  ~Share();  // nothing held, nobody waits

  // Grants come in the order of the calls. `bytes` is at most the budget's size.
  Task<void> acquire(std::uint64_t bytes);
  bool try_acquire(std::uint64_t bytes);
  void release(std::uint64_t bytes);

  std::uint64_t held() const { return held_; }
  // Counts the reasons for which the session waits for its client.
  void client_owes(bool begins) { owed_ += begins ? 1U : -1U; }
  bool evicted() const { return evicted_; }

 private:
  friend class PayloadBudget;
  bool active() const { return held_ > 0 || first_ != nullptr; }

  PayloadBudget& budget_;
  Stream& stream_;
  std::uint64_t held_ = 0;
  unsigned owed_ = 0;
  bool evicted_ = false;
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
  Share* next_ = nullptr;
  Share* previous_ = nullptr;
};

// What a buffer of `size` bytes takes of a pool: whole pieces of a power of two.
std::uint64_t pool_bytes(std::uint64_t size);

}  // namespace clouddisk::nbd
