// folder_syncs.h: one fsync of a folder for all who wait for one: disks that are made and deleted
// side by side all change the same few folders, and each fsync of a folder waits for the device (a
// journal merges such waits; not every filesystem has one).
//
// A caller's change is durable when sync() returns: it shares only a sync that begins after its
// call, never one that is under way. A sync that fails fails for all who shared it.
//
// Thread: the ring's.
#pragma once

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

  FolderSyncs(Ring& ring, SyncNow sync_now) : ring_(ring), sync_now_(std::move(sync_now)) {}

  Task<Result<void>> sync(std::string path);

 private:
  struct Round {
    explicit Round(Ring& ring) : ended(ring) {}
    Signal ended;
    std::optional<Result<void>> outcome;
  };
  struct Folder {
    explicit Folder(Ring& ring) : idle(ring) {}
    Signal idle;
    bool syncing = false;
    std::shared_ptr<Round> next;  // has not begun: who comes now may share it
  };

  Ring& ring_;
  SyncNow sync_now_;
  std::map<std::string, Folder> folders_;  // those somebody waits for
};

}  // namespace clouddisk
