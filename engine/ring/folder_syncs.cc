#include "engine/ring/folder_syncs.h"

namespace clouddisk {

Task<Result<void>> FolderSyncs::sync(std::string path) {
  Folder& folder = folders_.try_emplace(path, ring_).first->second;
  if (folder.next) {
    const std::shared_ptr<Round> round = folder.next;
    while (!round->outcome) co_await round->ended.wait();
    co_return *round->outcome;
  }
  // The first of a round leads it. At most one leads the next: it alone waits for `idle`.
  const auto round = std::make_shared<Round>(ring_);
  folder.next = round;
  while (folder.syncing) co_await folder.idle.wait();
  folder.next = nullptr;
  folder.syncing = true;
  round->outcome = co_await sync_now_(path);
  folder.syncing = false;
  round->ended.wake_all();
  if (folder.next) {
    folder.idle.wake_one();
  } else {
    folders_.erase(path);
  }
  co_return *round->outcome;
}

}  // namespace clouddisk
