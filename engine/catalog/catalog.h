// catalog.h: disks, instances, snapshots, images, policies, tasks, access keys and client tokens by
// id, kept in every replica (catalog_store.h).
//
// Thread: one ring's. Views and pointers stay valid until the next co_await, unless the caller
//   holds the lock of what they show (engine/control/change_locks.h).
// Errors: a commit that fails changed nothing.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/catalog/catalog_store.h"
#include "engine/catalog/records.h"

namespace clouddisk {

// What one transaction does.
class CatalogChange {
 public:
  void put(const DiskRecord& disk) { entries_[key_of(disk)] = to_json(disk); }
  void put(const InstanceRecord& instance) { entries_[key_of(instance)] = to_json(instance); }
  void put(const TokenRecord& token) { entries_[key_of(token)] = to_json(token); }
  void put(const SnapshotRecord& snapshot) { entries_[key_of(snapshot)] = to_json(snapshot); }
  void put(const ChainRecord& chain) { entries_[key_of(chain)] = to_json(chain); }
  void put(const GroupRecord& group) { entries_[key_of(group)] = to_json(group); }
  void put(const KeyRecord& key) { entries_[key_of(key)] = to_json(key); }
  void put(const PolicyRecord& policy) { entries_[key_of(policy)] = to_json(policy); }
  void put(const ImageRecord& image) { entries_[key_of(image)] = to_json(image); }
  void put(const TaskRecord& task) { entries_[key_of(task)] = to_json(task); }
  template <class Record>
  void erase(const Record& record) {
    entries_[key_of(record)] = std::nullopt;
  }
  bool empty() const { return entries_.empty(); }

 private:
  friend class Catalog;
  CatalogStore::Change entries_;
};

class Catalog {
 public:
  template <class Record>
  using ById = std::map<std::string, Record, std::less<>>;

  static Task<Result<std::unique_ptr<Catalog>>> open(Ring& ring, ReplicaSet& replicas,
                                                     CatalogStore::Options options);

  const ById<DiskRecord>& disks() const { return disks_; }
  const ById<InstanceRecord>& instances() const { return instances_; }
  const ById<TokenRecord>& tokens() const { return tokens_; }  // by key
  const ById<SnapshotRecord>& snapshots() const { return snapshots_; }
  const ById<ChainRecord>& chains() const { return chains_; }
  const ById<GroupRecord>& groups() const { return groups_; }
  const ById<KeyRecord>& keys() const { return keys_; }
  const ById<PolicyRecord>& policies() const { return policies_; }
  const ById<ImageRecord>& images() const { return images_; }
  const ById<TaskRecord>& tasks() const { return tasks_; }
  // Null when there is none.
  const DiskRecord* find_disk(std::string_view id) const;
  const InstanceRecord* find_instance(std::string_view id) const;
  const TokenRecord* find_token(std::string_view action, std::string_view token) const;
  const SnapshotRecord* find_snapshot(std::string_view id) const;
  const ChainRecord* find_chain(std::string_view id) const;
  const GroupRecord* find_group(std::string_view id) const;
  const KeyRecord* find_key(std::string_view id) const;
  const PolicyRecord* find_policy(std::string_view id) const;
  const ImageRecord* find_image(std::string_view id) const;
  const TaskRecord* find_task(std::string_view id) const;
  // By sequence, hidden ones included.
  std::vector<const SnapshotRecord*> snapshots_of_disk(std::string_view disk_id) const;
  // The images that a snapshot is in, by id.
  std::vector<const ImageRecord*> images_of(std::string_view snapshot_id) const;
  // Disks attached to the instance, or on the way there or away, by device name.
  std::vector<const DiskRecord*> disks_of(std::string_view instance_id) const;

  Task<Result<void>> commit(CatalogChange change);
  Task<Result<void>> copy_to(unsigned replica) { return store_->copy_to(replica); }
  std::uint64_t commit_number() const { return store_->commit_number(); }

 private:
  Result<void> take(const std::string& key, const std::string& json);

  std::unique_ptr<CatalogStore> store_;
  ById<DiskRecord> disks_;
  ById<InstanceRecord> instances_;
  ById<TokenRecord> tokens_;
  ById<SnapshotRecord> snapshots_;
  ById<ChainRecord> chains_;
  ById<GroupRecord> groups_;
  ById<KeyRecord> keys_;
  ById<PolicyRecord> policies_;
  ById<ImageRecord> images_;
  ById<TaskRecord> tasks_;
};

}  // namespace clouddisk
