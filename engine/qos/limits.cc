#include "engine/qos/limits.h"

#include <algorithm>
#include <limits>

#include "engine/base/units.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kPlainFrom = 32_KiB;
// 43/48 of 300 MB/s in requests of 16 KiB are 17,200 a second.
constexpr std::uint64_t kExtraNumerator = 48 - 43;
constexpr std::uint64_t kExtraDenominator = 43;

}  // namespace

IoCost cost_of(SizeCost size_cost, std::uint64_t bytes) {
  if (size_cost == SizeCost::kPlain || bytes >= kPlainFrom) return {1, bytes};
  const std::uint64_t charged = std::min(bytes, kPlainFrom - bytes);
  return {1, bytes + charged * kExtraNumerator / kExtraDenominator};
}

double operations_per_second(const DiskLimits& limits, std::uint64_t bytes) {
  double rate = std::numeric_limits<double>::infinity();
  const IoCost cost = cost_of(limits.size_cost, bytes);
  if (limits.iops != 0) {
    rate = static_cast<double>(limits.iops) / static_cast<double>(cost.operations);
  }
  if (limits.bytes_per_second != 0 && cost.bytes != 0) {
    rate = std::min(rate,
                    static_cast<double>(limits.bytes_per_second) / static_cast<double>(cost.bytes));
  }
  return rate;
}

}  // namespace clouddisk
