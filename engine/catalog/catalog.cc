#include "engine/catalog/catalog.h"

#include <algorithm>

namespace clouddisk {

Task<Result<std::unique_ptr<Catalog>>> Catalog::open(Ring& ring, ReplicaSet& replicas,
                                                     CatalogStore::Options options) {
  auto store = co_await CatalogStore::open(ring, replicas, options);
  if (!store) co_return store.error();
  auto catalog = std::make_unique<Catalog>();
  catalog->store_ = std::move(*store);
  for (const auto& [key, json] : catalog->store_->records()) {
    if (auto taken = catalog->take(key, json); !taken) {
      co_return fail(taken.error(), "catalog record {}", key);
    }
  }
  co_return catalog;
}

// Files a record under its kind. Kinds that this program does not know are kept as they are.
Result<void> Catalog::take(const std::string& key, const std::string& json) {
  if (key.starts_with(kDiskKeys)) {
    auto disk = disk_from_json(json);
    if (!disk) return disk.error();
    disks_.insert_or_assign(key.substr(kDiskKeys.size()), std::move(*disk));
  } else if (key.starts_with(kInstanceKeys)) {
    auto instance = instance_from_json(json);
    if (!instance) return instance.error();
    instances_.insert_or_assign(key.substr(kInstanceKeys.size()), std::move(*instance));
  } else if (key.starts_with(kTokenKeys)) {
    auto token = token_from_json(json);
    if (!token) return token.error();
    tokens_.insert_or_assign(key, std::move(*token));
  } else if (key.starts_with(kSnapshotKeys)) {
    auto snapshot = snapshot_from_json(json);
    if (!snapshot) return snapshot.error();
    snapshots_.insert_or_assign(key.substr(kSnapshotKeys.size()), std::move(*snapshot));
  } else if (key.starts_with(kChainKeys)) {
    auto chain = chain_from_json(json);
    if (!chain) return chain.error();
    chains_.insert_or_assign(key.substr(kChainKeys.size()), std::move(*chain));
  } else if (key.starts_with(kGroupKeys)) {
    auto group = group_from_json(json);
    if (!group) return group.error();
    groups_.insert_or_assign(key.substr(kGroupKeys.size()), std::move(*group));
  } else if (key.starts_with(kAccessKeys)) {
    auto access_key = key_from_json(json);
    if (!access_key) return access_key.error();
    keys_.insert_or_assign(key.substr(kAccessKeys.size()), std::move(*access_key));
  } else if (key.starts_with(kPolicyKeys)) {
    auto policy = policy_from_json(json);
    if (!policy) return policy.error();
    policies_.insert_or_assign(key.substr(kPolicyKeys.size()), std::move(*policy));
  } else if (key.starts_with(kImageKeys)) {
    auto image = image_from_json(json);
    if (!image) return image.error();
    images_.insert_or_assign(key.substr(kImageKeys.size()), std::move(*image));
  } else if (key.starts_with(kTaskKeys)) {
    auto task = task_from_json(json);
    if (!task) return task.error();
    tasks_.insert_or_assign(key.substr(kTaskKeys.size()), std::move(*task));
  }
  return {};
}

const DiskRecord* Catalog::find_disk(std::string_view id) const {
  const auto at = disks_.find(id);
  return at != disks_.end() ? &at->second : nullptr;
}

const InstanceRecord* Catalog::find_instance(std::string_view id) const {
  const auto at = instances_.find(id);
  return at != instances_.end() ? &at->second : nullptr;
}

const TokenRecord* Catalog::find_token(std::string_view action, std::string_view token) const {
  const auto at =
      tokens_.find(std::string(kTokenKeys) + std::string(action) + "/" + std::string(token));
  return at != tokens_.end() ? &at->second : nullptr;
}

const SnapshotRecord* Catalog::find_snapshot(std::string_view id) const {
  const auto at = snapshots_.find(id);
  return at != snapshots_.end() ? &at->second : nullptr;
}

const ChainRecord* Catalog::find_chain(std::string_view id) const {
  const auto at = chains_.find(id);
  return at != chains_.end() ? &at->second : nullptr;
}

const GroupRecord* Catalog::find_group(std::string_view id) const {
  const auto at = groups_.find(id);
  return at != groups_.end() ? &at->second : nullptr;
}

const KeyRecord* Catalog::find_key(std::string_view id) const {
  const auto at = keys_.find(id);
  return at != keys_.end() ? &at->second : nullptr;
}

const PolicyRecord* Catalog::find_policy(std::string_view id) const {
  const auto at = policies_.find(id);
  return at != policies_.end() ? &at->second : nullptr;
}

const ImageRecord* Catalog::find_image(std::string_view id) const {
  const auto at = images_.find(id);
  return at != images_.end() ? &at->second : nullptr;
}

const TaskRecord* Catalog::find_task(std::string_view id) const {
  const auto at = tasks_.find(id);
  return at != tasks_.end() ? &at->second : nullptr;
}

std::vector<const ImageRecord*> Catalog::images_of(std::string_view snapshot_id) const {
  std::vector<const ImageRecord*> found;
  for (const auto& [id, image] : images_) {
    const bool has = std::any_of(image.disks.begin(), image.disks.end(),
                                 [&](const auto& disk) { return disk.snapshot_id == snapshot_id; });
    if (has) found.push_back(&image);
  }
  return found;
}

std::vector<const SnapshotRecord*> Catalog::snapshots_of_disk(std::string_view disk_id) const {
  std::vector<const SnapshotRecord*> snapshots;
  for (const auto& [id, snapshot] : snapshots_) {
    if (snapshot.disk_id == disk_id) snapshots.push_back(&snapshot);
  }
  std::sort(snapshots.begin(), snapshots.end(),
            [](const auto* a, const auto* b) { return a->seq < b->seq; });
  return snapshots;
}

std::vector<const DiskRecord*> Catalog::disks_of(std::string_view instance_id) const {
  std::vector<const DiskRecord*> disks;
  for (const auto& [id, disk] : disks_) {
    if (disk.instance_id == instance_id) disks.push_back(&disk);
  }
  std::sort(disks.begin(), disks.end(), [](const DiskRecord* a, const DiskRecord* b) {
    return a->device != b->device ? a->device < b->device : a->id < b->id;
  });
  return disks;
}

Task<Result<void>> Catalog::commit(CatalogChange change) {
  if (change.empty()) co_return Result<void>{};
  const CatalogStore::Change entries = change.entries_;
  auto committed = co_await store_->commit(std::move(change.entries_));
  if (!committed) co_return committed;
  for (const auto& [key, json] : entries) {
    if (json) {
      const auto taken = take(key, *json);
      CHECK(taken.has_value());  // We have just made it.
    } else if (key.starts_with(kDiskKeys)) {
      disks_.erase(key.substr(kDiskKeys.size()));
    } else if (key.starts_with(kInstanceKeys)) {
      instances_.erase(key.substr(kInstanceKeys.size()));
    } else if (key.starts_with(kSnapshotKeys)) {
      snapshots_.erase(key.substr(kSnapshotKeys.size()));
    } else if (key.starts_with(kChainKeys)) {
      chains_.erase(key.substr(kChainKeys.size()));
    } else if (key.starts_with(kGroupKeys)) {
      groups_.erase(key.substr(kGroupKeys.size()));
    } else if (key.starts_with(kAccessKeys)) {
      keys_.erase(key.substr(kAccessKeys.size()));
    } else if (key.starts_with(kPolicyKeys)) {
      policies_.erase(key.substr(kPolicyKeys.size()));
    } else if (key.starts_with(kImageKeys)) {
      images_.erase(key.substr(kImageKeys.size()));
    } else if (key.starts_with(kTaskKeys)) {
      tasks_.erase(key.substr(kTaskKeys.size()));
    } else {
      tokens_.erase(key);
    }
  }
  co_return committed;
}

}  // namespace clouddisk
