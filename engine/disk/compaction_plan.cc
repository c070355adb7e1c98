#include "engine/disk/compaction_plan.h"

#include <algorithm>
#include <utility>

#include "engine/log/segment_format.h"

namespace clouddisk {
namespace {

// Below it, moving what is left costs more writing than the space is worth.
constexpr double kUtilisationMax = 0.9;
constexpr std::size_t kSparesMin = 4;
constexpr std::size_t kSparesMax = 16;  // two rounds of cleaning

// Of garbage: where writers wait.
std::uint64_t stop_bound(const SpaceUse& use) {
  return use.live_bytes / 2 + 16 * kSegmentSize;  // 1 GiB
}

}  // namespace

bool compaction_due(const SpaceUse& use) {
  return use.garbage() > use.live_bytes / 4 + 8 * kSegmentSize;  // 512 MiB
}

std::size_t spares_to_keep(const SpaceUse& use) {
  const std::uint64_t bound = stop_bound(use);
  const std::uint64_t left = bound > use.garbage() ? bound - use.garbage() : 0;
  return std::clamp<std::size_t>(left / kSegmentSize, kSparesMin, kSparesMax);
}

double write_pressure(const SpaceUse& use) {
  const std::uint64_t slow = use.live_bytes / 8 * 3 + 12 * kSegmentSize;  // 768 MiB
  const std::uint64_t stop = stop_bound(use);
  if (use.garbage() <= slow) return 0;
  if (use.garbage() >= stop) return 1;
  return static_cast<double>(use.garbage() - slow) / static_cast<double>(stop - slow);
}

std::vector<SegmentSeq> choose_victims(const std::set<SegmentSeq>& segments, const LiveCounts& live,
                                       SegmentSeq complete_before, std::size_t count_max) {
  std::vector<std::pair<double, SegmentSeq>> scored;
  for (const SegmentSeq segment : segments) {
    if (segment >= complete_before) break;
    const auto it = live.find(segment);
    const double used = it == live.end() ? 0 : static_cast<double>(it->second) / kSegmentBlocks;
    if (used > kUtilisationMax) continue;
    const double age = static_cast<double>(complete_before.value - segment.value);
    // Benefit over cost (Rosenblum and Ousterhout, 1992): space won times age, over read and write.
    scored.emplace_back((1 - used) * age / (1 + used), segment);
  }
  std::sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  std::vector<SegmentSeq> victims;
  for (const auto& [score, segment] : scored) {
    if (victims.size() == count_max) break;
    victims.push_back(segment);
  }
  return victims;
}

}  // namespace clouddisk
