// root_checker.h: the parts of root_check.h, which share what they have learned. Included by
// root_check*.cc alone.
#pragma once

#include <map>
#include <set>

#include "engine/catalog/catalog.h"
#include "engine/disk/log_check.h"
#include "snapshot/root_check.h"
#include "snapshot/volume.h"

namespace clouddisk::snapshot {

// Pools and caches of one ring, as a reactor has them.
struct CheckMachine {
  CheckMachine(Ring& ring, ReplicaSet& set)
      : files(ring, 256),
        pages(16_MiB),
        client(ring, 32_MiB),
        packs(ring, 16_MiB),
        work(ring, 16_MiB),
        log(ring, 32_MiB),
        headers(ring, 2_MiB),
        environment{ring, set, files, pages, client, work, log, headers},
        pack_environment{ring, set, files, pages, packs, work, log, headers} {}
  FileCache files;
  PageCache pages;
  BufferPool client;
  BufferPool packs;
  BufferPool work;
  BufferPool log;
  BufferPool headers;
  DiskEnvironment environment;
  DiskEnvironment pack_environment;
};

// A log that belongs to somebody.
struct CheckedStorage {
  std::string owner;  // the disk's id
  bool must_exist = true;
  std::uint64_t size_bytes = 0;
  std::string base;  // snapshot
  bool is_pack = false;
  bool doomed = false;  // its disk was being made or removed: the next start removes it
};

class RootChecker {
 public:
  RootChecker(Ring& ring, RootCheckOptions options) : ring_(ring), options_(std::move(options)) {}
  Task<Result<RootCheck>> run();

 private:
  template <class... Args>
  CheckFinding& find(CheckFinding::Kind kind, std::string subject, std::optional<unsigned> replica,
                     fmt::format_string<Args...> format, Args&&... args) {
    CheckFinding finding;
    finding.kind = kind;
    finding.subject = std::move(subject);
    if (replica) finding.replica = *replica + 1;
    finding.what = fmt::format(format, std::forward<Args>(args)...);
    result_.findings.push_back(std::move(finding));
    return result_.findings.back();
  }
  bool is_in(unsigned copy) const { return in_mask(replicas_->in_sync_mask(), copy); }
  // Whether the contents of a storage are to be looked at.
  bool wanted(const CheckedStorage& storage) const {
    return !storage.doomed && (options_.disk.empty() || options_.disk == storage.owner);
  }
  bool wanted(const std::string& owner) const {
    return options_.disk.empty() || options_.disk == owner;
  }
  std::string index_of(const std::string& storage) const {
    return options_.index_root + "/" + storage;
  }

  Task<Result<void>> check_superblocks();
  Task<void> check_catalog_copies();
  void check_records();
  void check_disk(const DiskRecord& disk);
  void check_snapshot(const SnapshotRecord& snapshot);
  Task<Result<void>> check_names();
  Task<void> check_files(const std::string& storage);
  Task<void> drop_tree(std::string path);
  Task<Result<void>> add_up();
  Task<Result<void>> check_storage(const std::string& name);
  Task<Result<LogPosition>> check_map_index(const std::string& name);
  Task<void> check_contents();
  Task<Result<std::shared_ptr<BlockSource>>> base_of(const std::string& snapshot_id);
  Task<Result<std::shared_ptr<Disk>>> open_storage(const std::string& name);
  Task<void> check_map(const std::string& name, Disk& disk);
  Task<void> check_view(const std::string& storage, const std::string& subject, Disk& disk,
                        std::optional<Epoch> view);
  Task<void> check_chain(const std::string& disk_id);
  Task<void> close_all();
  Task<Result<void>> resync_others();
  Volume& volume_of(const std::string& disk_id);
  static std::string chain_of(const std::string& disk_id) { return "sl-" + disk_id.substr(2); }

  Ring& ring_;
  RootCheckOptions options_;
  RootCheck result_;
  std::unique_ptr<ReplicaSet> replicas_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<CheckMachine> machine_;
  std::map<std::string, CheckedStorage> storages_;
  std::set<std::string> present_;  // storages that some copy has
  std::map<std::string, LogCheck> logs_;
  std::map<std::string, std::unique_ptr<Volume>> volumes_;
  std::vector<std::pair<std::string, std::string>> opened_;  // disk, storage
  std::set<std::string> broken_;                             // storages whose log can't be read
  std::set<std::string> strange_;                            // storages whose index is wrong
  std::set<std::string> untold_;  // storages of whose content the log tells not all
  std::uint64_t total_bytes_ = 0;
};

}  // namespace clouddisk::snapshot
