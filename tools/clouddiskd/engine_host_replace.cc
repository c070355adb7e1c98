// engine_host_replace.cc: another folder in the place of a replica's.
#include <algorithm>
#include <bit>

#include "engine/base/log.h"
#include "tools/clouddiskd/engine_host.h"

namespace clouddisk {

Task<Result<void>> EngineHost::replace_replica(unsigned replica, std::string folder) {
  if (replacing_) {
    co_return fail(Errc::kBusy, "replica {} is just being replaced", *replacing_ + 1);
  }
  replacing_ = replica;  // It must not begin to resync in its old folder meanwhile.
  auto replaced = co_await replace_folder(replica, std::move(folder));
  replacing_.reset();
  co_return replaced;
}

Task<Result<void>> EngineHost::replace_folder(unsigned replica, std::string folder) {
  if (stopping_) co_return fail(Errc::kShutdown, "the daemon is stopping");
  const bool winding_down = resync_under_way_ && resync_under_way_->replica == replica;
  if ((replicas_.receiving_mask() >> replica & 1U) != 0 || winding_down) {
    co_return fail(Errc::kBusy, "replica {} is resyncing: wait until it is in sync or failed",
                   replica + 1);
  }
  const ReplicaMask others = replicas_.in_sync_mask() & ~(1U << replica);
  if (std::popcount(others) < static_cast<int>(kWriteQuorum)) {
    co_return fail(Errc::kReplicasLost,
                   "both other replicas have to be in sync: bring them back first, with clouddisk "
                   "replica resync");
  }
  auto bytes = co_await bytes_of_replica(others);
  if (!bytes) co_return bytes.error();
  const std::string old = replicas_.folder(replica);
  const std::string root = options_.root;
  std::vector<std::string> taken{root + "/index", root + "/mounts"};
  for (unsigned i = 0; i < kReplicaCount; ++i) taken.push_back(replicas_.folder(i));
  std::string uuid;
  for (const std::uint8_t byte : replicas_.set_uuid()) uuid += fmt::format("{:02x}", byte);
  const std::string claim = fmt::format("replica {} of set {}\n", replica + 1, uuid);
  const std::string record = root + "/replicas";
  const Replacement replacement{replica, options_.configured[replica], folder};
  std::vector<Replacement> before;
  RootLock lock;
  // Recorded before the old one is let go: whenever the daemon dies, its next start finds either
  // the old folder, in sync, or the new one, to be brought up to date.
  auto recorded = co_await control_.blocking([&]() -> Result<void> {
    if (auto fit = claim_folder(folder, claim, taken, *bytes); !fit) return fit;
    if (auto mine = lock.take_folder(folder); !mine) {
      return fail(Errc::kExists, "{} is in use by another program", folder);
    }
    auto list = load_replacements(record);
    if (!list) return list.error();
    before = *list;
    std::erase_if(*list, [&](const Replacement& one) { return one.index == replica; });
    list->push_back(replacement);
    return save_replacements(record, *list);
  });
  if (!recorded) co_return recorded;
  auto dropped = co_await replicas_.drop(control_, replica, "replaced by " + folder);
  if (!dropped) {
    // Too few are left to write, so nothing was or will be acknowledged without the old one: it is
    // as good as the others, and has to be found again.
    auto undone = co_await control_.blocking([&] { return save_replacements(record, before); });
    if (!undone) {
      log(LogLevel::kError, "replicas", "{} names {} for replica {}, which was not replaced: {}",
          record, folder, replica + 1, undone.error().message);
    }
    co_return dropped;
  }
  const std::string mark =
      fmt::format("replica {} of set {} is in {} now\n", replica + 1, uuid, folder);
  const bool marked =
      co_await control_.blocking([&] { return write_mark(old, kReplacedMark, mark).has_value(); });
  if (!marked) {
    log(LogLevel::kWarning, "replicas",
        "{} could not be marked as replaced; it is out of date from now on, which its superblock "
        "says",
        old);
  }
  for (Reactor* reactor : reactors_) {
    co_await reactor->ring().enter();
    reactor->environment().files.forget_copy(replica);
    co_await control_.enter();
  }
  replicas_.set_folder(replica, folder);
  hold_folder(replica, std::move(lock));
  log(LogLevel::kInfo, "replicas", "replica {} moves from {} to {}", replica + 1, old, folder);
  co_return begin_resync(replica);
}

}  // namespace clouddisk
