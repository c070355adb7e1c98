// folder_syncs.h: one fsync of a folder for all who wait for one: disks that are made and deleted
// side by side all change the same few folders, and each fsync of a folder waits for the device (a
// journal merges such waits; not every filesystem has one).
//
// A caller's change is durable when sync() returns: it shares only a sync that begins after its
// call, never one that is under way. A sync that fails fails for all who shared it, and for those
// who wait for it to end: the kernel tells of a failure once, and the next fsync, which finds
// nothing left to write, would succeed. One that takes longer than `patience` is not waited for:
// the next begins beside it, and no third beside two.
//
// That is so for callers of one ring, from their call on. A change that was made long before it, or
// beside another ring's, may still miss a failure that was told to others: what counts then is that
// they take the copy out of the set.
//
// Thread: the ring's.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "engine/ring/ring.h"
#include "engine/ring/sync.h"

namespace clouddisk {

class FolderSyncs {
 public:
  using SyncNow = std::function<Task<Result<void>>(std::string path)>;

  // `patience` is less than what a copy may stall (I1).
  FolderSyncs(Ring& ring, SyncNow sync_now, Duration patience = std::chrono::milliseconds(500))
      : ring_(ring), sync_now_(std::move(sync_now)), patience_(patience) {}

  Task<Result<void>> sync(std::string path);

 private:
  struct Round {
    explicit Round(Ring& ring) : ended(ring) {}
    Signal ended;
    std::optional<Result<void>> outcome;
    std::optional<Error> missed;  // told to one that was overtaken, while this was under way
  };
  // Shared with those who use it: one who hangs may outlive this.
  struct Folder {
    explicit Folder(Ring& ring) : idle(ring) {}
    Signal idle;                     // for the leader of `next` alone
    std::shared_ptr<Round> running;  // the latest
    unsigned unfinished = 0;         // with those that were overtaken
    TimePoint began;
    std::shared_ptr<Round> next;  // has not begun: who comes now may share it
  };

  static void end(Round& round, const Result<void>& outcome);

  Ring& ring_;
  SyncNow sync_now_;
  Duration patience_;
  std::map<std::string, std::shared_ptr<Folder>> folders_;  // those somebody waits for
};

}  // namespace clouddisk
