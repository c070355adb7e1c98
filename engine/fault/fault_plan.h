// fault_plan.h: the faults that are set on one disk at one level, and what they do to a request.
//
// Thread: the disk's ring makes every call; ActiveFault::hits is read anywhere.
// Cost: who asks tests armed() first, so a disk without faults pays one test a request.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "engine/fault/fault.h"
#include "engine/ring/sync.h"

namespace clouddisk {

struct ActiveFault {
  ActiveFault(std::string fault_id, FaultSpec what, TimePoint ends)
      : id(std::move(fault_id)), spec(std::move(what)), until(ends), random(spec.seed) {}
  const std::string id;
  const FaultSpec spec;
  const TimePoint until;  // TimePoint::max(): until it is cleared
  std::atomic<std::uint64_t> hits{0};
  Random random;  // the plan's ring alone
};

// What a request is, as far as faults care.
struct FaultTarget {
  FaultOps op = kFaultRead;              // one of them
  std::optional<unsigned> replica;       // nothing: at the client
  std::uint64_t offset = 0, length = 0;  // bytes; of the disk, or of the piece of a segment
  bool has_data = false;                 // bytes that can differ
  bool may_lose = false;                 // can be torn or dropped
  bool takes_space = false;              // can find the device full
};

// Bytes from the start of a request, [begin, end).
struct FaultRange {
  std::uint64_t begin = 0, end = 0;
  bool operator==(const FaultRange&) const = default;
};

struct FaultEffect;

class FaultPlan {
 public:
  explicit FaultPlan(Ring& ring) : ring_(ring), changed_(ring), inside_(ring) {}

  bool armed() const { return !faults_.empty(); }
  void add(std::shared_ptr<ActiveFault> fault) { faults_.push_back(std::move(fault)); }
  // Lets go what waits for it. Fine if it is not there.
  void remove(const std::string& id);
  void clear();

  // Waits as long as slow and hang want it to; then tells the rest. Of several faults all happen,
  // in the order in which they were set; the first that fails the request ends it.
  Task<FaultEffect> meet(FaultTarget target);
  // Of an operation that met a fault, from then on to its end: it goes with the effect.
  class Pass {
   public:
    explicit Pass(FaultPlan& plan) : plan_(plan) { plan_.inside_.add(); }
    ~Pass() { plan_.inside_.done(); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    FaultPlan& plan_;
  };
  // Until nothing that met a fault is under way, or that time: what was let go may hang on a
  // device.
  Task<bool> wait_for_passes(TimePoint until) { return inside_.wait_until(until); }
  // Whether a replica is to look full: alone, whatever it shares with others.
  bool makes_full(unsigned replica) const;

 private:
  bool is_set(const std::shared_ptr<ActiveFault>& fault) const;
  bool alive(const ActiveFault& fault) const;
  bool meets(ActiveFault& fault, const FaultTarget& target) const;
  // Until then, or until the fault is removed.
  Task<void> wait_on(std::shared_ptr<ActiveFault> fault, TimePoint until);

  Ring& ring_;
  std::vector<std::shared_ptr<ActiveFault>> faults_;
  Signal changed_;
  WaitGroup inside_;
};

// What is to become of the request. The plan outlives it.
struct FaultEffect {
  std::optional<Error> error;              // fail with it, and do nothing
  bool drop = false;                       // say that it is done, and do nothing
  std::vector<FaultRange> lost;            // do all but this, and say that it is done
  std::optional<std::uint64_t> flip_byte;  // this one, from the start of the request
  std::unique_ptr<FaultPlan::Pass> pass;   // null: it met nothing

  // What is left to do of a request of so many bytes, ascending; empty: nothing.
  std::vector<FaultRange> kept(std::uint64_t length) const;
};

// What a fault of kind corrupt does.
inline void flip_byte(std::span<std::byte> bytes, std::uint64_t at) {
  bytes[at] ^= std::byte{0x40};
}

}  // namespace clouddisk
