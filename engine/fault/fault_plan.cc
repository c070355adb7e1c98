#include "engine/fault/fault_plan.h"

#include <algorithm>

namespace clouddisk {
namespace {

constexpr std::uint64_t kSector = 512;

// The part of the request that lies in the fault's blocks.
struct Overlap {
  std::uint64_t begin = 0, end = 0;  // bytes of the disk
};
Overlap overlap(const FaultSpec& spec, const FaultTarget& target) {
  Overlap part{target.offset, target.offset + target.length};
  if (!spec.blocks) return part;
  part.begin = std::max(part.begin, spec.blocks->first.value * kBlockSize);
  part.end = std::min(part.end, (spec.blocks->last.value + 1) * kBlockSize);
  return part;
}

}  // namespace

void FaultPlan::remove(const std::string& id) {
  std::erase_if(faults_, [&id](const auto& fault) { return fault->id == id; });
  changed_.wake_all();
}

void FaultPlan::clear() {
  faults_.clear();
  changed_.wake_all();
}

bool FaultPlan::is_set(const std::shared_ptr<ActiveFault>& fault) const {
  return std::find(faults_.begin(), faults_.end(), fault) != faults_.end();
}

bool FaultPlan::alive(const ActiveFault& fault) const {
  return ring_.now() < fault.until;
}

bool FaultPlan::meets(ActiveFault& fault, const FaultTarget& target) const {
  const FaultSpec& spec = fault.spec;
  if (!alive(fault) || (spec.ops & target.op) == 0 || spec.replica != target.replica) return false;
  if (spec.blocks) {
    const Overlap part = overlap(spec, target);
    if (part.begin >= part.end) return false;
  }
  switch (spec.kind) {
    case FaultKind::kSlow:
    case FaultKind::kError:
    case FaultKind::kHang:
      break;
    case FaultKind::kCorrupt:
      if (!target.has_data) return false;
      break;
    case FaultKind::kTorn:
    case FaultKind::kDrop:
      if (!target.may_lose) return false;
      break;
    case FaultKind::kFull:
      if (!target.takes_space) return false;
      break;
  }
  return spec.rate >= 1 || fault.random.unit() < spec.rate;
}

Task<void> FaultPlan::wait_on(std::shared_ptr<ActiveFault> fault, TimePoint until) {
  while (ring_.now() < until && is_set(fault)) {
    const bool woken = co_await changed_.wait_until(until);
    static_cast<void>(woken);
  }
}

Task<FaultEffect> FaultPlan::meet(FaultTarget target) {
  FaultEffect effect;
  const auto faults = faults_;  // They may go while this waits.
  for (const std::shared_ptr<ActiveFault>& fault : faults) {
    if (!is_set(fault) || !meets(*fault, target)) continue;
    fault->hits.fetch_add(1, std::memory_order_relaxed);
    switch (fault->spec.kind) {
      case FaultKind::kSlow:
        co_await wait_on(fault, ring_.now() + *fault->spec.delay);
        break;
      case FaultKind::kHang:
        co_await wait_on(fault, fault->until);
        break;
      case FaultKind::kError:
        effect.error = fail(Errc::kIo, "fault {}: an error on purpose", fault->id);
        break;
      case FaultKind::kFull:
        effect.error = fail(Errc::kNoSpace, "fault {}: full on purpose", fault->id);
        break;
      case FaultKind::kDrop:
        effect.drop = true;
        break;
      case FaultKind::kTorn:
        // Less than all: of a single sector nothing.
        effect.keep_bytes = fault->random.below((target.length + kSector - 1) / kSector) * kSector;
        break;
      case FaultKind::kCorrupt: {
        const Overlap part = overlap(fault->spec, target);
        effect.flip_byte = part.begin - target.offset + fault->random.below(part.end - part.begin);
        break;
      }
    }
    if (effect.error) break;
  }
  co_return effect;
}

bool FaultPlan::makes_full(unsigned replica) const {
  return std::any_of(faults_.begin(), faults_.end(), [&](const auto& fault) {
    return fault->spec.kind == FaultKind::kFull && fault->spec.replica == replica && alive(*fault);
  });
}

}  // namespace clouddisk
