#include "engine/log/removed_disks.h"

#include <fmt/format.h>

namespace clouddisk {

namespace {

// Gives the folder another name, if it is there.
Task<Result<void>> move_away(Ring& ring, std::string replica_folder, std::string disk_id) {
  const std::string folder = replica_folder + "/disks/" + disk_id;
  const std::string removed = replica_folder + "/removed";
  bool made = false;
  for (unsigned number = 0;;) {
    const std::string to = fmt::format("{}/{}-{}", removed, disk_id, number);
    auto renamed = co_await ring.rename(folder, to);
    if (renamed) co_return renamed;
    auto there = co_await ring.stat(folder);
    if (!there && there.error().code == Errc::kNotFound) co_return Result<void>{};
    if (!there) co_return there.error();
    auto taken = co_await ring.stat(to);
    if (taken) {
      ++number;  // One of the same name is still on its way out.
    } else if (!made && taken.error().code == Errc::kNotFound) {
      if (auto done = co_await ring.make_directories(removed); !done) co_return done;
      made = true;
    } else {
      co_return renamed;
    }
  }
}

}  // namespace

Task<Result<void>> set_aside(Ring& ring, std::string replica_folder, std::string disk_id) {
  const std::string disks = replica_folder + "/disks";
  // One that was never written to is empty.
  auto gone = co_await ring.remove(disks + '/' + disk_id);
  if (!gone) gone = co_await move_away(ring, replica_folder, disk_id);
  // That makes names, for which a full device may have no space; removing does not.
  if (!gone) gone = co_await ring.remove_tree(disks + '/' + disk_id);
  if (!gone) co_return gone;
  // Also of what was gone already: a process may have died before it came to this.
  auto synced = co_await ring.sync_directory(disks);
  if (!synced && synced.error().code == Errc::kNotFound) co_return Result<void>{};
  co_return synced;
}

Task<Result<void>> purge_removed(Ring& ring, std::string replica_folder,
                                 std::function<bool()> stop) {
  const std::string removed = replica_folder + "/removed";
  auto disks = co_await ring.list(removed);
  if (!disks && disks.error().code == Errc::kNotFound) co_return Result<void>{};
  if (!disks) co_return disks.error();
  Result<void> outcome;
  for (const std::string& disk : *disks) {
    const std::string folder = removed + '/' + disk;
    auto files = co_await ring.list(folder);
    for (std::size_t i = 0; files && i < files->size(); ++i) {
      if (stop()) co_return outcome;
      static_cast<void>(co_await ring.remove(folder + '/' + (*files)[i]));
    }
    if (co_await ring.remove(folder)) continue;
    // Whatever is left of it, and the word on what can't be removed.
    if (auto gone = co_await ring.remove_tree(folder); !gone) outcome = gone;
  }
  co_return outcome;
}

}  // namespace clouddisk
