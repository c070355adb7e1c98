// options.h: what one history is made of. The same options give the same history.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/variant.h"

namespace clouddisk::simulation {

// What goes wrong, and within which rules (world_faults.cc): so that the engine has to mask all of
// it.
enum class Fault : std::uint8_t {
  kDeath,        // of the process, at any await
  kPower,        // any part of what was not synced is lost, by sectors of 512 bytes
  kTorn,         // a write claims success and is there in part      } of one and
  kLost,         // ... and is not there                             } the same
  kMisdirected,  // ... and is somewhere else on the device          } replica, for
  kDelayed,      // ... and comes later, perhaps over newer data     } all of the
  kFlip,         // a bit of what was read is wrong                  } history
  kRot,          // a bit of a file on the medium turns              }
  kReadError,    // } told errors, of another replica, one at a time;
  kWriteError,   // } which one changes when all are in sync
  kSyncError,    // } fdatasync: what it covered is durable or lost
  kFull,         // no space, on one replica or on all of them, for a while
  kSlow,         // } of the replica with told errors too
  kHung,         // } longer than the bound of I1
  kGone,         // } and back
  kStale,        // } its folder is replaced by a former state, while the process is down
  kIndex,        // index files lost or damaged while the process is down; checkpoints fail
  kCount,
};
// What clients and the operator do. All but kRead can be left out to make a failure smaller.
enum class Action : std::uint8_t {
  kRead,
  kWrite,
  kPartial,  // writes and trims that are not whole blocks
  kHuge,     // more than 64 KiB
  kTrim,
  kFlush,
  kSnapshot,
  kCapture,
  kDrop,
  kRollback,
  kClone,
  kHydrate,
  kResize,
  kDelete,
  kRepack,
  kResync,
  kCheckpoint,
  kCount,
};

template <class E>
class SetOf {
 public:
  static SetOf all() {
    SetOf set;
    set.bits_ = (1U << static_cast<unsigned>(E::kCount)) - 1;
    return set;
  }
  bool has(E e) const { return (bits_ >> static_cast<unsigned>(e) & 1U) != 0; }
  void add(E e) { bits_ |= 1U << static_cast<unsigned>(e); }
  void remove(E e) { bits_ &= ~(1U << static_cast<unsigned>(e)); }
  bool empty() const { return bits_ == 0; }
  bool operator==(const SetOf&) const = default;

 private:
  std::uint32_t bits_ = 0;
};
using Faults = SetOf<Fault>;
using Actions = SetOf<Action>;

std::string_view name(Fault fault);
std::string_view name(Action action);
std::string_view name(Variant variant);
std::string_view meaning(Variant variant);

// "none", "all" or names with commas.
Result<Faults> parse_faults(std::string_view text);
Result<Actions> parse_actions(std::string_view text);
Result<Variant> parse_variant(std::string_view text);
std::string to_text(Faults faults);
std::string to_text(Actions actions);

struct Options {
  std::uint64_t seed = 1;
  std::uint64_t steps = 100'000;
  Faults faults = Faults::all();
  Actions actions = Actions::all();
  unsigned disks = 3;
  unsigned depth = 24;  // requests at once
  Variant variant = Variant::kNone;
  bool trace = false;  // every action on stderr
};
// The command that runs exactly this.
std::string command_of(const Options& options);

}  // namespace clouddisk::simulation
