#include "nbd/payload_budget.h"

#include <algorithm>
#include <bit>

namespace clouddisk::nbd {
namespace {

constexpr Duration kLookEvery = std::chrono::milliseconds(250);  // for stalled clients
constexpr std::uint64_t kSmallPart = 8;  // What is below this part of the budget is small.

}  // namespace

struct PayloadBudget::Waiter {
  Waiter(Ring& ring, std::uint64_t wanted) : bytes(wanted), changed(ring) {}
  std::uint64_t bytes;
  bool granted = false;
  Signal changed;
  Waiter* next = nullptr;
};

PayloadBudget::PayloadBudget(Ring& ring, std::uint64_t bytes, Duration stall_max)
    : ring_(ring), size_(bytes), stall_max_(stall_max), free_(bytes) {}

PayloadBudget::~PayloadBudget() {
  CHECK(shares_ == nullptr);
  CHECK(free_ == size_);
}

// As much has to stay free as is taken: so what many clients hold who take no answers leaves room
// for the small requests of others, however many they are. A large one may need all that there is.
bool PayloadBudget::has_room_for(std::uint64_t bytes) const {
  return bytes <= free_ && (bytes > size_ / kSmallPart || bytes <= free_ - bytes);
}

bool PayloadBudget::fits(const Share& share, std::uint64_t bytes) const {
  if (!has_room_for(bytes)) return false;
  if (share.held_ == 0) return true;
  const std::uint64_t others = active_ - (share.active() ? 1 : 0);
  return share.held_ + bytes <= std::min(size_ / (others + 2), free_);
}

void PayloadBudget::take(Share& share, std::uint64_t bytes) {
  free_ -= bytes;
  share.held_ += bytes;
}

// In turn: the first request that its share allows and the budget has no room for stops the round,
// so that small ones don't pass it for ever.
void PayloadBudget::grant_waiting() {
  if (shares_ == nullptr) return;
  Share* const begin = shares_;
  Share* share = begin;
  do {
    while (share->first_ != nullptr) {
      Waiter& waiter = *share->first_;
      if (!fits(*share, waiter.bytes)) {
        if (!has_room_for(waiter.bytes)) {
          shares_ = share;
          return;
        }
        break;
      }
      take(*share, waiter.bytes);
      share->first_ = waiter.next;
      if (share->first_ == nullptr) share->last_ = nullptr;
      waiter.granted = true;
      waiter.changed.wake_all();
    }
    share = share->next_;
  } while (share != begin);
}

// The one that moved nothing for the longest time, for somebody else's sake; the next look sees
// whether that was enough.
void PayloadBudget::evict_stalled(const Share& waiting) {
  const TimePoint now = ring_.now();
  if (now < next_look_) return;
  next_look_ = now + kLookEvery;
  Share* worst = nullptr;
  Share* share = shares_;
  do {
    const bool stalled = share != &waiting && share->held_ > 0 && share->owed_ > 0 &&
                         !share->evicted_ && now - share->stream_.last_progress() >= stall_max_;
    if (stalled &&
        (worst == nullptr || share->stream_.last_progress() < worst->stream_.last_progress())) {
      worst = share;
    }
    share = share->next_;
  } while (share != shares_);
  if (worst == nullptr) return;
  worst->evicted_ = true;
  worst->stream_.shutdown();  // Its session ends and gives everything back.
}

PayloadBudget::Share::Share(PayloadBudget& budget, Stream& stream)
    : budget_(budget), stream_(stream) {
  if (budget_.shares_ == nullptr) {
    budget_.shares_ = next_ = previous_ = this;
    return;
  }
  next_ = budget_.shares_;
  previous_ = next_->previous_;
  previous_->next_ = this;
  next_->previous_ = this;
}

PayloadBudget::Share::~Share() {
  CHECK(held_ == 0);
  CHECK(first_ == nullptr);
  previous_->next_ = next_;
  next_->previous_ = previous_;
  if (budget_.shares_ == this) budget_.shares_ = next_ == this ? nullptr : next_;
}

bool PayloadBudget::Share::try_acquire(std::uint64_t bytes) {
  if (first_ != nullptr || !budget_.fits(*this, bytes)) return false;
  if (held_ == 0) ++budget_.active_;
  budget_.take(*this, bytes);
  return true;
}

Task<void> PayloadBudget::Share::acquire(std::uint64_t bytes) {
  CHECK(bytes <= budget_.size_);
  if (try_acquire(bytes)) co_return;
  if (!active()) ++budget_.active_;
  Waiter waiter(budget_.ring_, bytes);
  (last_ != nullptr ? last_->next : first_) = &waiter;
  last_ = &waiter;
  while (!waiter.granted) {
    const bool woken = co_await waiter.changed.wait_until(budget_.ring_.now() + kLookEvery);
    if (!woken && !waiter.granted) budget_.evict_stalled(*this);
  }
}

void PayloadBudget::Share::release(std::uint64_t bytes) {
  CHECK(held_ >= bytes);
  if (bytes == 0) return;
  held_ -= bytes;
  budget_.free_ += bytes;
  if (!active()) --budget_.active_;
  budget_.grant_waiting();
}

std::uint64_t pool_bytes(std::uint64_t size) {
  const std::uint64_t units = (size + BufferPool::kUnit - 1) / BufferPool::kUnit;
  return std::bit_ceil(units) * BufferPool::kUnit;
}

}  // namespace clouddisk::nbd
