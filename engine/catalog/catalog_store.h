// catalog_store.h: checked records by key, the same in every replica folder (I8), all of them in
// memory as well.
//
// Each folder has an environment `catalog/` (kv.h). A change is one transaction in each, with the
// next number of a counter. It counts once it is in all in-sync copies, and at least in two (I6); a
// copy that fails is put out of the replica set before that (I5). Memory changes last. A change
// that could not be made is taken back where it was written.
//
// Thread: one ring's; transactions run on workers, one at a time.
// Errors: kReplicasLost and kNoSpace: nothing changed. kCorrupt at open: no copy can be trusted.
//   kUnsupported: written by a newer clouddisk.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/log/replica_set.h"
#include "engine/ring/kv.h"
#include "engine/ring/ring.h"
#include "engine/ring/sync.h"

namespace clouddisk {

class CatalogStore {
 public:
  using Records = std::map<std::string, std::string>;                // key to JSON
  using Change = std::map<std::string, std::optional<std::string>>;  // nothing: erase

  struct Options {
    Duration stall_max = std::chrono::seconds(10);  // a copy that takes longer has failed
  };

  // Reads every in-sync copy and checks every record, takes the newest copy, and replaces or
  // completes the others from it. Makes an empty catalog where all folders are without one and
  // without disks.
  static Task<Result<std::unique_ptr<CatalogStore>>> open(Ring& ring, ReplicaSet& replicas,
                                                          Options options);

  const Records& records() const { return records_; }
  std::uint64_t commit_number() const { return commit_; }

  // Changes that wait while another is written go together, in one transaction: all of them are
  // made, or none is.
  Task<Result<void>> commit(Change change);

  // For resync: replaces whatever the replica has by a whole copy; changes reach it from then on.
  Task<Result<void>> copy_to(unsigned replica);

 private:
  struct Copy {
    std::shared_ptr<Kv> kv;
    bool current = false;  // holds what memory holds
  };
  struct Batch;
  struct Waiting;
  struct Round;
  struct Found;

  CatalogStore(Ring& ring, ReplicaSet& replicas, Options options);
  std::string directory(unsigned replica) const;
  Task<Result<void>> commit_locked(Change change);
  Task<Result<Found>> read_copy(unsigned replica);
  Task<Result<void>> load(ReplicaMask members);
  Task<Result<void>> replace(unsigned replica);
  Task<Result<void>> check_no_disks(ReplicaMask members);
  Task<void> replace_or_drop(unsigned replica);
  void forget_outsiders(ReplicaMask members);
  Batch make_batch(const Change& change, std::uint64_t number) const;
  Batch make_whole(std::uint64_t number) const;
  Task<std::shared_ptr<Round>> write_round(ReplicaMask targets, std::shared_ptr<const Batch> batch);
  static Task<void> write_one(Ring& ring, std::shared_ptr<Round> round, unsigned replica,
                              std::shared_ptr<Kv> kv, std::shared_ptr<const Batch> batch);
  Task<Result<void>> take_back(const Change& change, ReplicaMask written, const Round& round);

  Ring& ring_;
  ReplicaSet& replicas_;
  Options options_;
  AsyncMutex changing_;
  std::vector<std::shared_ptr<Waiting>> waiting_;  // for `changing_`
  std::array<Copy, kReplicaCount> copies_;
  Records records_;
  std::uint64_t commit_ = 0;
};

}  // namespace clouddisk
