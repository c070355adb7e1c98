// fault.h: a fault that a user orders on a disk: what happens to which requests, how often, where
// and how long. Pure data and the rules between its parts; docs/faults.md tells users the same.
//
// Two levels. At the client (no replica named) a fault acts above the engine, and whoever uses the
// disk sees it. At a replica it acts on one copy of the disk's segments, below the engine, which
// has to mask it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/base/units.h"

namespace clouddisk {

enum class FaultKind : std::uint8_t {
  kSlow,     // takes a delay longer
  kError,    // fails, and nothing was done
  kCorrupt,  // one byte differs: of what a read brings, or of what a write stores
  kTorn,     // a write stores its beginning alone, and is reported as done
  kDrop,     // is reported as done, and nothing was done
  kFull,     // fails for want of space
  kHang,     // waits until the fault ends, then goes on
};
inline constexpr std::size_t kFaultKinds = 7;
std::string_view name(FaultKind kind);  // "slow", "error", …
std::optional<FaultKind> parse_fault_kind(std::string_view text);

// Kinds of requests, as a mask. At the client trims and write-zeroes are writes.
using FaultOps = std::uint8_t;
inline constexpr FaultOps kFaultRead = 1;
inline constexpr FaultOps kFaultWrite = 2;
inline constexpr FaultOps kFaultFlush = 4;
std::string names_of(FaultOps ops);                             // "read, write"
std::optional<FaultOps> parse_fault_op(std::string_view text);  // one of them

struct FaultSpec {
  std::string disk_id;
  FaultKind kind = FaultKind::kError;
  std::optional<unsigned> replica;  // from 0; nothing: at the client
  FaultOps ops = 0;                 // 0: all that the kind can meet
  double rate = 1;                  // of the requests that it could meet, (0, 1]
  struct Blocks {
    Lba first;
    Lba last;  // included
  };
  std::optional<Blocks> blocks;      // requests that touch one of them; nothing: all
  std::optional<Duration> delay;     // of kSlow
  std::optional<Duration> lifetime;  // nothing: until it is cleared
  std::uint64_t seed = 0;

  bool at_client() const { return !replica.has_value(); }
  // Leaves a copy behind that is not what was written.
  bool damages_media() const {
    const bool spoils =
        kind == FaultKind::kCorrupt || kind == FaultKind::kTorn || kind == FaultKind::kDrop;
    return spoils && (ops & kFaultWrite) != 0;
  }
};

inline constexpr Duration kFaultDelay = std::chrono::milliseconds(100);  // unless one is given
inline constexpr Duration kFaultDelayMax = std::chrono::seconds(60);
inline constexpr Duration kFaultLifetimeMax = std::chrono::hours(24 * 7);
inline constexpr std::size_t kFaultsOfDiskMax = 16;

// Fills in what was left out. kInvalid: the parts make no sense together; the message says what
// would.
Result<FaultSpec> complete(FaultSpec spec);

// "error on read, write, 10 %, blocks 0-255", "hang on flush at replica 2": for logs and tables.
std::string describe(const FaultSpec& spec);

// A fault that was set, as it is shown.
struct FaultStatus {
  std::string id;  // f-1, f-2, …
  FaultSpec spec;
  std::uint64_t hits = 0;             // requests that met it
  std::optional<Duration> time_left;  // nothing: until it is cleared
};

}  // namespace clouddisk
