// root_check.h: everything that a daemon keeps, looked at while none runs: superblocks, catalog,
// logs, indexes, chains, and what they say of each other.
//
// Over an OverlayRing nothing is changed, and the engine's own recovery and rebuilding run for
// trial: what they would do can be looked at. Over a real ring with `repair` the same steps are
// taken for good. Damage that some copy can mend is mended from it; what no copy has is reported
// and stays as it is.
// Thread: the ring's, which nothing else uses.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/log/replica_set.h"

namespace clouddisk::snapshot {

struct CheckFinding {
  enum class Kind {
    kNote,      // as a crash may leave it; the next start settles it
    kMendable,  // damage that loses nothing
    kLost,      // nothing here can bring it back
  };
  Kind kind = Kind::kNote;
  std::string subject;              // "superblock", "catalog", or the id of what it is about
  std::optional<unsigned> replica;  // from 1; none: all, or none in particular
  std::string what;
  // Of a log: where.
  std::optional<std::uint64_t> segment;
  std::uint64_t first_block = 0;
  std::uint64_t blocks = 0;
  // Of content: what of the disk or snapshot, in blocks of 4 KiB.
  std::optional<std::uint64_t> first_lba;
  std::uint64_t lbas = 0;

  bool operator==(const CheckFinding&) const = default;
};

struct RootCheckOptions {
  std::array<std::string, kReplicaCount> folders;
  std::string index_root;
  bool repair = false;
  std::string disk;  // the contents of this disk and its snapshots alone; empty: all
  std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;
};

struct RootCheck {
  std::vector<CheckFinding> findings;
  // Of a repair: what could not be mended, and why.
  std::vector<std::pair<CheckFinding, std::string>> failed;
  std::uint64_t disks = 0;
  std::uint64_t snapshots = 0;
  std::uint64_t storages = 0;  // logs, packs included
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;  // read and compared, on all copies
};

// An error: it could not be looked at.
Task<Result<RootCheck>> check_root(Ring& ring, RootCheckOptions options);

}  // namespace clouddisk::snapshot
