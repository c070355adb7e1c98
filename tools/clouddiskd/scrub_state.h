// scrub_state.h: what of scrub outlives the daemon: where the pass is, and what passes found. One
// small JSON file, <root>/scrub; without it a pass begins anew, and nothing else is lost.
#pragma once

#include <string>

#include "engine/base/result.h"
#include "engine/control/scrub_status.h"

namespace clouddisk {

struct ScrubState {
  bool under_way = false;  // a pass was begun and is not complete
  bool stopped = false;    // by the operator: it waits for him, or until the next is due
  std::int64_t stopped_ns = 0;
  std::string storage;        // the pass is at this one (they are sorted)
  std::uint64_t segment = 0;  // and is done with it up to here
  ScrubPass pass;
  std::optional<ScrubPass> last;
  std::int64_t complete_ns = 0;  // see ScrubStatus
  std::array<ScrubCounts, kReplicaCount> total;
  std::uint64_t total_lost_blocks = 0;
};

std::string to_json(const ScrubState& state);
Result<ScrubState> scrub_state_from(std::string_view json);

// Block. kNotFound: there is none.
Result<ScrubState> load_scrub_state(const std::string& path);
Result<void> save_scrub_state(const std::string& path, const ScrubState& state);

}  // namespace clouddisk
