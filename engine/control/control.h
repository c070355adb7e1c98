// control.h: the one control interface: the cloud's actions by name, with their parameters, carried
// out on catalog and disks. HTTP, the CLI and SDKs are its clients; this class knows no transport.
//
// Thread: the control ring. Actions that change the same things run one at a time, in order of
//   arrival; see change_locks.h.
// Errors: a refusal is a Reply with the cloud's HTTP status and code; nothing changed then.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/catalog/places.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/disk_host.h"
#include "engine/log/replica_set.h"
#include "engine/ring/ring.h"

namespace clouddisk {

// Orders parameter names without regard to case, as the cloud's libraries need it.
struct NameLess {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const;
};
// Flat, as on the wire: "DiskId", "Tag.1.Key", "SystemDisk.Size"; includes "Action".
using Params = std::map<std::string, std::string, NameLess>;

// Who asks. kLocal: through the unix socket, whose file says who may. kSigned: somebody with an
// access key, from anywhere; what hands out keys or names folders of the host is refused then.
enum class Caller { kLocal, kSigned };

struct Reply {
  int http_status = 200;
  std::string body;  // a JSON object with RequestId; errors have Code, Message and HostId too
};

class EventLog;
class PointStore;

class Control {
 public:
  struct Options {
    Places places{};
    std::string profile = "2021";  // of the category table
    // How long a disk keeps its category and level after a change; the cloud has seven days. Zero:
    // no wait.
    Duration spec_cooling{0};
    std::size_t snapshot_quota = kManualSnapshotsMax;          // manual ones of a disk
    std::size_t auto_snapshot_quota = kAutomaticSnapshotsMax;  // automatic ones of a disk
    StoreSettings store{};  // of disks that have none of their own
    // What the host was told, for DescribeCategories to say.
    bool limits_enforced = true;
    bool latency_emulated = false;
    PointStore* points = nullptr;  // what disks did, borrowed; null: that is not known
    EventLog* events = nullptr;    // what happened to them, the same
    std::uint64_t seed = 0;        // of ids and request ids; 0: the system's randomness
  };

  // Opens the catalog (the newest copy among the in-sync replicas; the others are brought to it),
  // makes it when all are new, finishes or undoes what a crash interrupted, and serves every
  // attached disk.
  static Task<Result<std::unique_ptr<Control>>> open(Ring& ring, ReplicaSet& replicas,
                                                     DiskHost& host, Options options);
  ~Control();

  // Never fails: every error is a Reply.
  Task<Reply> perform(Params params, Caller caller = Caller::kLocal);

  // Takes the automatic snapshots that are due at `at`, and removes snapshots whose retention has
  // passed by then. To be called every few seconds; one call at a time. `at` is the wall clock,
  // and what is taken was taken then.
  Task<void> keep_schedule(WallTime at);

  // The secret of an access key; nothing when there is none of that id.
  struct Key {
    std::string secret;
    bool active = true;
  };
  std::optional<Key> find_access_key(std::string_view id) const;

  // Whether there is a record of it.
  bool has_disk(std::string_view id) const;

  // Waits for the action under way; later ones answer ServiceUnavailable.
  Task<void> close();

  // For resync: copies the catalog to a receiving replica; later changes reach it too.
  Task<Result<void>> copy_catalog_to(unsigned replica);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  explicit Control(std::unique_ptr<Impl> impl);
};

}  // namespace clouddisk
