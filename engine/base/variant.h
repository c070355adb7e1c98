// variant.h: a build for the simulator (docs/testing.md): segments of 2 MiB, so that a short
// history fills, cleans and recycles many, and faults of our own that the simulator has to find,
// one at a time. In every other build broken() is false at compile time and nothing of them is
// left.
#pragma once

#include <cstdint>

namespace clouddisk {

#ifdef CLOUDDISK_SIMULATION
inline constexpr bool kSimulationBuild = true;
#else
inline constexpr bool kSimulationBuild = false;
#endif

// What is broken on purpose. docs/testing.md says what each does and how soon it is caught.
enum class Variant : std::uint8_t {
  kNone,
  kAcknowledgeEarly,        // a write is acknowledged when the first replica has it
  kSkipGeneration,          // a replica that is dropped is not recorded on the others
  kTrustStale,              // a folder of an older generation counts as a member
  kSkipBlockChecksum,       // a block read from media is believed
  kSkipBatchChecksum,       // recovery believes a batch whose payload does not match
  kIgnoreParent,            // recovery takes any batch with the right number for the next one
  kSkipTailRepair,          // recovery leaves copies different behind the durable point
  kRelocateOverNewer,       // a relocated block wins against a newer write
  kFreeSegmentOfView,       // compaction looks at the present only, never at snapshots
  kRemoveBeforeCheckpoint,  // a cleaned segment goes before the index has the new places
  kSkipReadGate,            // a cleaned segment goes while reads of it are under way
  kForgetTombstones,        // the trims of a cleaned segment are not kept
  kForgetTrimInReplay,      // replay after a restart passes trims over
  kSkipLogFlush,            // FLUSH answers without an fdatasync
  kFuaWithoutFlush,         // a FUA write answers without an fdatasync
  kSkipNameSync,            // a new segment's name is not made durable
  kSkipFolderSync,          // the folder of a new storage is not made durable
  kCheckpointBeforeFlush,   // the index knows of what is not durable yet
  kPartialWithoutRead,      // a partial write takes zeros for the rest of its block
  kSharePartialRanges,      // partial writes of one block do not exclude each other
  kHydrateOverNewer,        // hydration does not look whether a block was written meanwhile
  kReadBorrowedAsZero,      // a borrowed block reads as zeros
  kFreezeWithoutFlush,      // a snapshot is not durable when it is there
  kCaptureMissesTrims,      // a capture takes trimmed blocks for unchanged ones
  kPurgeWhatIsSeen,         // deleting a snapshot frees what its neighbour shows
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
