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
  while (folder->running && !round->outcome) {
    const TimePoint due = folder->began + patience_;
    if (folder->unfinished > 1) {
      co_await folder->idle.wait();
    } else if (ring_.now() < due) {
      const bool woken = co_await folder->idle.wait_until(due);
      static_cast<void>(woken);
    } else {
      break;
    }
  }
  if (round->outcome) co_return *round->outcome;
  folder->next = nullptr;
  folder->running = round;
  folder->began = ring_.now();
  ++folder->unfinished;
  auto outcome = co_await sync_now_(path);
  --folder->unfinished;
  if (outcome && round->missed) outcome = *round->missed;
  end(*round, outcome);
  if (folder->running == round) folder->running = nullptr;
  // A folder that is not there was not synced, and tells everyone.
  const bool told_once = !outcome && outcome.error().code != Errc::kNotFound;
  if (told_once && folder->running) folder->running->missed = outcome.error();
  if (told_once && folder->next) end(*std::exchange(folder->next, nullptr), outcome);
  folder->idle.wake_all();
  if (folder->unfinished == 0 && !folder->next) folders_.erase(path);
  co_return outcome;
}

}  // namespace clouddisk
