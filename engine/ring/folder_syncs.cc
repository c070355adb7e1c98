#include "engine/ring/folder_syncs.h"

namespace clouddisk {

void FolderSyncs::end(Round& round, const Result<void>& outcome) {
  round.outcome = outcome;
  round.ended.wake_all();
}

Task<Result<void>> FolderSyncs::sync(std::string path) {
  std::shared_ptr<Folder>& known = folders_[path];
  if (!known) known = std::make_shared<Folder>(ring_);
  const std::shared_ptr<Folder> folder = known;
  if (folder->next) {
    const std::shared_ptr<Round> round = folder->next;
    while (!round->outcome) co_await round->ended.wait();
    co_return *round->outcome;
  }
  // The first of a round leads it.
  const auto round = std::make_shared<Round>(ring_);
  folder->next = round;
  while (folder->running && !round->outcome && ring_.now() < folder->began + patience_) {
    const bool woken = co_await folder->idle.wait_until(folder->began + patience_);
    static_cast<void>(woken);
  }
  if (round->outcome) co_return *round->outcome;
  folder->next = nullptr;
  folder->running = round;
  folder->began = ring_.now();
  auto outcome = co_await sync_now_(path);
  end(*round, outcome);
  if (folder->running == round) folder->running = nullptr;
  // A folder that is not there was not synced, and tells everyone.
  const bool told_once = !outcome && outcome.error().code != Errc::kNotFound;
  if (told_once && folder->next) end(*std::exchange(folder->next, nullptr), outcome);
  folder->idle.wake_all();
  if (!folder->running && !folder->next) {
    const auto it = folders_.find(path);
    if (it != folders_.end() && it->second == folder) folders_.erase(it);
  }
  co_return outcome;
}

}  // namespace clouddisk
