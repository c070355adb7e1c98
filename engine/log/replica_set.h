// replica_set.h: which of the replica folders may be believed (I5, I6). One set a daemon; every
// disk's log, the catalog and (later) the snapshot repository keep a copy of their files in each
// folder.
//
// Each folder holds a superblock: uuid of the set, own index, generation, members in sync. When a
// member misses a write, the survivors' superblocks get a new generation without it, durably,
// before the write is acknowledged. So any two folders of three know the truth, and a single one is
// never believed unless the operator names it.
//
// Thread: drop(), admit() and everything that changes state run on the home ring (they hop there
// and
//   back themselves); in_sync_mask() and receiving_mask() are read from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/ring/ring.h"
#include "engine/ring/sync.h"

namespace clouddisk {

inline constexpr unsigned kReplicaCount = 3;
inline constexpr unsigned kWriteQuorum = 2;  // I6

enum class ReplicaState { kInSync, kFailed, kResyncing };
std::string_view name(ReplicaState state);  // "in-sync", "failed", "resyncing"

struct ReplicaStatus {
  unsigned index = 0;  // from 0; folders and commands count from 1
  std::string folder;
  ReplicaState state = ReplicaState::kFailed;
  Generation generation;  // the newest one this folder was a member of
  std::string reason;     // why it is not in sync; empty when it is
  std::uint64_t resync_done_bytes = 0;
  std::uint64_t resync_total_bytes = 0;
};

using SetUuid = std::array<std::uint8_t, 16>;
using ReplicaMask = std::uint32_t;  // bit i: replica i
inline bool in_mask(ReplicaMask mask, unsigned copy) {
  return (mask >> copy & 1U) != 0;
}

struct Superblock {
  SetUuid set_uuid{};
  std::uint32_t index = 0;
  Generation generation;
  ReplicaMask in_sync = 0;
  // Those that are out and had an fdatasync fail: what it covered may be in a cache alone, whatever
  // a read shows, so all that such a replica has is written anew before it is believed again.
  ReplicaMask unsynced = 0;
};
inline constexpr std::size_t kSuperblockSize = kBlockSize;
// What the first superblocks of a new set say. A start writes two generations, so one that was
// completed has left them behind on every member.
inline constexpr Generation kFirstGeneration{2};
void encode_superblock(const Superblock& superblock, std::span<std::byte> block);
// kCorrupt: torn, foreign or damaged; kUnsupported: made by a newer clouddisk.
Result<Superblock> decode_superblock(std::span<const std::byte> block);

// What is found at start, and what may be done with it: a plain function from superblocks to
// answer.
struct FoundReplica {
  bool reachable = false;  // the folder exists or could be made, and can be written
  bool bare = false;       // nothing in it but, at most, a superblock: it never held any data
  std::optional<Superblock> superblock;
  std::string problem;  // why there is no superblock
};
struct SetDecision {
  bool create = false;  // all folders are new, or nothing came of an earlier try: make a set
  SetUuid set_uuid{};   // zeros: to be chosen
  Generation generation;
  ReplicaMask in_sync = 0;   // members to start with
  ReplicaMask rebuild = 0;   // reachable folders to be resynced from the members
  ReplicaMask unsynced = 0;  // of those that are not members: see Superblock
};
// `trusted_single`: the operator names one replica (from 0) to believe alone.
Result<SetDecision> decide_set(const std::array<FoundReplica, kReplicaCount>& found,
                               std::optional<unsigned> trusted_single);

class ReplicaSet {
 public:
  struct Options {
    std::array<std::string, kReplicaCount> folders;
    std::optional<unsigned> trusted_single;
    // A folder that tells of data in other folders, which are not mounted, or named wrongly: three
    // empty ones make no new set then.
    std::string traces{};
  };

  // Reads the superblocks and decides; makes a new set in empty folders. kInvalid, kCorrupt and
  // kUnsupported come with what to do; kReplicasLost: empty, with `traces`. Folders left out are
  // marked for rebuild: see to_rebuild().
  static Task<Result<std::unique_ptr<ReplicaSet>>> open(Ring& home, Options options);

  ~ReplicaSet();

  // Any thread. What it gives stays, also when the folder is replaced.
  const std::string& folder(unsigned index) const {
    return *folders_[index].load(std::memory_order_acquire);
  }
  // What the folder is on: the same number, the same filesystem. Known of members, and of one that
  // joins once somebody noted it; 0 before. Any thread.
  std::uint64_t device(unsigned index) const {
    return devices_[index].load(std::memory_order_acquire);
  }
  void note_device(unsigned index, std::uint64_t device) {
    devices_[index].store(device, std::memory_order_release);
  }
  SetUuid set_uuid() const { return set_uuid_; }
  ReplicaMask in_sync_mask() const { return in_sync_.load(std::memory_order_acquire); }
  // Replicas that get every new write but are not believed yet.
  ReplicaMask receiving_mask() const { return receiving_.load(std::memory_order_acquire); }
  // How often the replica began to receive: what was open on it before is not there any more, or of
  // another folder. Any thread.
  std::uint32_t joins(unsigned index) const {
    return joins_[index].load(std::memory_order_acquire);
  }
  bool can_write() const;  // I6
  bool single_allowed() const { return single_allowed_; }
  std::vector<ReplicaStatus> status() const;  // any thread
  ReplicaMask to_rebuild() const { return rebuild_; }
  // An fdatasync failed on it, in this process or an earlier one, and it was not brought up to date
  // since. Any thread.
  bool unsynced(unsigned index) const {
    return (unsynced_.load(std::memory_order_acquire) >> index & 1U) != 0;
  }

  // Takes a replica out. Returns once the survivors know durably; an acknowledgement that depends
  // on it waits for that. Fine if it is out already. A receiving replica just stops receiving. With
  // fewer than kWriteQuorum survivors nothing is written: no write will be acknowledged (I6).
  Task<Result<void>> drop(Ring& caller, unsigned index, std::string reason) {
    return drop_for(caller, index, std::move(reason), false);
  }
  // The same because of an fdatasync that failed, which the survivors remember too.
  Task<Result<void>> drop_unsynced(Ring& caller, unsigned index, std::string reason) {
    return drop_for(caller, index, std::move(reason), true);
  }

  // Resync, step by step, on the home ring: mark as receiving; report progress; admit when
  // complete.
  Result<void> begin_receiving(unsigned index);
  void report_progress(unsigned index, std::uint64_t done_bytes, std::uint64_t total_bytes);
  // kBusy when it stopped receiving in the meantime, also when it began anew since joins() was
  // `join`: it has missed what came in between. Writes the new generation to every member.
  Task<Result<void>> admit(unsigned index, std::optional<std::uint32_t> join = std::nullopt);

  // Disks were removed, and their files are to go (removed_disks.h). True at first: an earlier
  // process may have left some. Any thread.
  void note_removed() { removed_.store(true, std::memory_order_release); }
  bool take_removed() { return removed_.exchange(false, std::memory_order_acq_rel); }
  // Whether the names in its folder of disks are durable, but for those that are being made: once
  // somebody synced it since the process began or the replica joined, `join` being joins() of
  // before. A process that died may have left others. Any thread.
  bool names_are_durable(unsigned index) const {
    return durable_names_[index].load(std::memory_order_acquire) == joins(index) + 1;
  }
  void note_durable_names(unsigned index, std::uint32_t join) {
    durable_names_[index].store(join + 1, std::memory_order_release);
  }
  void forget_durable_names(unsigned index) {
    durable_names_[index].store(0, std::memory_order_release);
  }
  // Another folder in the place of one that is out of the set: everything that refers to the old
  // one was let go. It is brought up to date like any other: begin_receiving().
  void set_folder(unsigned index, std::string folder);
  // Scrub: the superblock of a member in sync says what is true; written anew where it does not.
  // Gives whether that was needed. An error: it could not be written, and the member is out.
  Task<Result<bool>> check_superblock(unsigned index);

  // Fails members whose folder has vanished or been replaced under us. Call every second or so.
  Task<void> check_folders();

 private:
  struct Member {
    ReplicaState state = ReplicaState::kFailed;
    Generation generation;
    std::string reason;
    std::uint64_t done_bytes = 0;
    std::uint64_t total_bytes = 0;
    std::uint64_t inode = 0;  // of the superblock, to notice a replaced folder
  };

  ReplicaSet(Ring& home, Options options);
  Task<Result<void>> write_superblock(unsigned index, Generation generation, ReplicaMask in_sync);
  Task<Result<void>> drop_for(Ring& caller, unsigned index, std::string reason, bool unsynced);
  Task<Result<void>> drop_on_home(unsigned index, std::string reason, bool unsynced_now = false);
  Task<Result<void>> renew();
  void publish();

  Ring& home_;
  AsyncMutex changing_;
  std::array<Member, kReplicaCount> members_;
  std::array<std::atomic<const std::string*>, kReplicaCount> folders_{};
  std::vector<std::unique_ptr<const std::string>> known_folders_;  // every one that ever was
  SetUuid set_uuid_{};
  Generation generation_;
  bool single_allowed_ = false;
  ReplicaMask rebuild_ = 0;
  std::array<std::atomic<std::uint32_t>, kReplicaCount> joins_{};
  std::array<std::atomic<std::uint32_t>, kReplicaCount> durable_names_{};  // 0: not yet
  std::array<std::atomic<std::uint64_t>, kReplicaCount> devices_{};
  std::atomic<ReplicaMask> in_sync_{0};
  std::atomic<ReplicaMask> receiving_{0};
  std::atomic<ReplicaMask> unsynced_{0};
  ReplicaMask unsynced_on_record_ = 0;  // of them, what the superblocks say
  std::atomic<bool> removed_{true};
  struct SharedStatus;
  std::unique_ptr<SharedStatus> shared_;  // a copy of members_ under a mutex, for status()
};

}  // namespace clouddisk
