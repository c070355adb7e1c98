#include "engine/fault/fault_plan.h"

#include <algorithm>

namespace clouddisk {
namespace {

constexpr std::uint64_t kSector = 512;

// The part of the request that lies in the fault's blocks, from the request's start.
FaultRange overlap(const FaultSpec& spec, const FaultTarget& target) {
  FaultRange part{target.offset, target.offset + target.length};
  if (spec.blocks) {
    part.begin = std::max(part.begin, spec.blocks->first.value * kBlockSize);
    part.end = std::min(part.end, (spec.blocks->last.value + 1) * kBlockSize);
  }
  if (part.begin >= part.end) return {};
  return {part.begin - target.offset, part.end - target.offset};
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
    if (overlap(spec, target) == FaultRange{}) return false;
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
    if (!effect.pass) effect.pass = std::make_unique<Pass>(*this);
    const FaultRange part = overlap(fault->spec, target);
    const std::uint64_t part_bytes = part.end - part.begin;
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
        if (part_bytes == target.length) {
          effect.drop = true;
        } else {
          effect.lost.push_back(part);
        }
        break;
      case FaultKind::kTorn: {
        // Less than all: of a single sector nothing.
        const std::uint64_t kept =
            fault->random.below((part_bytes + kSector - 1) / kSector) * kSector;
        effect.lost.push_back({part.begin + kept, part.end});
        break;
      }
      case FaultKind::kCorrupt:
        effect.flip_byte = part.begin + fault->random.below(part_bytes);
        break;
    }
    if (effect.error) break;
  }
  co_return effect;
}

std::vector<FaultRange> FaultEffect::kept(std::uint64_t length) const {
  if (drop) return {};
  std::vector<FaultRange> pieces{{0, length}};
  for (const FaultRange& gone : lost) {
    std::vector<FaultRange> rest;
    for (const FaultRange& piece : pieces) {
      const std::uint64_t before = std::min(piece.end, gone.begin);
      const std::uint64_t after = std::max(piece.begin, gone.end);
      if (piece.begin < before) rest.push_back({piece.begin, before});
      if (after < piece.end) rest.push_back({after, piece.end});
    }
    pieces = std::move(rest);
  }
  return pieces;
}

bool FaultPlan::makes_full(unsigned replica) const {
  return std::any_of(faults_.begin(), faults_.end(), [&](const auto& fault) {
    return fault->spec.kind == FaultKind::kFull && fault->spec.replica == replica && alive(*fault);
  });
}

}  // namespace clouddisk
