// compaction_plan.h: when to compact, what, and how hard to hold writers back: plain functions.
//
// Garbage is what segments hold beyond live data. It is let be up to a quarter of the live data
// plus 512 MiB, so that a small disk is not cleaned for nothing; from there on the cleaner runs.
// Writers are slowed from three eighths (plus 768 MiB) on and wait at a half (plus 1 GiB):
//
//   stored <= 1.5 * live + 1 GiB      a replica, beside what the cleaner itself has in hand
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "engine/base/units.h"
#include "engine/map/page_store.h"

namespace clouddisk {

struct SpaceUse {
  std::uint64_t stored_bytes = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t garbage() const {
    return stored_bytes > live_bytes ? stored_bytes - live_bytes : 0;
  }
};

bool compaction_due(const SpaceUse& use);
// 0: not at all. 1: wait until the cleaner has won space. In between a share of the longest delay.
double write_pressure(const SpaceUse& use);

// How many removed segments to keep for reuse: a file that was written before is written twice as
// fast as a new one. What garbage leaves up to where writers wait, so that the two together keep to
// the bound above; four to sixteen.
std::size_t spares_to_keep(const SpaceUse& use);

// The segments to clean next, at most `count_max`, best first: those that give much space for
// little copying, old ones before young ones (the younger, the more of it will die by itself). Only
// segments before `complete_before` are considered.
std::vector<SegmentSeq> choose_victims(const std::set<SegmentSeq>& segments, const LiveCounts& live,
                                       SegmentSeq complete_before, std::size_t count_max);

}  // namespace clouddisk
