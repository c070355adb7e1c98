// variant.h: a build for the simulator (docs/testing.md): segments of 2 MiB, so that a short history
// fills, cleans and recycles many, and faults of our own that the simulator has to find, one at a
// time. In every other build broken() is false at compile time and nothing of them is left.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace clouddisk {

#ifdef CLOUDDISK_SIMULATION
inline constexpr bool kSimulationBuild = true;
#else
inline constexpr bool kSimulationBuild = false;
#endif

// What is broken on purpose. docs/testing.md says what each does and how soon it is caught.
enum class Variant : std::uint8_t {
  kNone,
  kAcknowledgeEarly,       // after the first replica
  kSkipGeneration,         // a dropped replica is not recorded on the others
  kTrustStale,             // a folder of an older generation counts as a member
  kSkipBlockChecksum,      // a block read from media is believed
  kSkipBatchChecksum,      // recovery believes a batch whose payload does not match
  kIgnoreParent,           // recovery takes any batch with the right number for the next one
  kRelocateOverNewer,      // compaction's entry wins against a newer write
  kFreeSegmentOfView,      // compaction looks at the present only, never at snapshots
  kForgetTrimInReplay,     // replay after a restart passes trims over
  kForgetTombstones,       // a cleaned segment's trims are not kept
  kSkipLogFlush,           // FLUSH answers without an fdatasync
  kSkipReplicaFlush,       // FLUSH leaves one replica out
  kRetryFailedFlush,       // a failed fdatasync is repeated, and then believed
  kHydrateOverNewer,       // hydration does not look whether the block was written meanwhile
  kReadBorrowedAsZero,     // a borrowed block reads as zeros
  kFreezeLate,             // the epoch ends a batch too late: a later write is in the snapshot
  kOverwriteFrozenPage,    // a checkpoint writes into the version that a snapshot shows
  kCheckpointBeforeFlush,  // the index knows of what is not durable yet
  kRemoveBeforeCheckpoint, // a cleaned segment goes before the index has the new places
  kSkipTailRepair,         // recovery leaves copies different behind the durable point
  kKeepFailedReplica,      // a write that failed on one replica is acknowledged, the replica stays
  kResyncSkipsHalf,        // resync leaves every other segment out
  kTrimBelowChain,         // deleting a snapshot frees what its neighbour shows
  kPartialWithoutRead,     // a partial write takes zeros for the rest of its block
  kCount,
};

#ifdef CLOUDDISK_SIMULATION
extern Variant broken_variant;  // set before anything starts
inline bool broken(Variant variant) {
  return broken_variant == variant;
}
#else
constexpr bool broken(Variant) {
  return false;
}
#endif

}  // namespace clouddisk
