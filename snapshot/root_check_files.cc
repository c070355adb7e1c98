// root_check_files.cc: folders and files that are there against those that should be.
#include <algorithm>

#include "snapshot/root_checker.h"

namespace clouddisk::snapshot {

using Kind = CheckFinding::Kind;

Task<void> RootChecker::drop_tree(std::string path) {
  if (!options_.repair) co_return;
  static_cast<void>(co_await ring_.remove_tree(std::move(path)));
}

Task<Result<void>> RootChecker::check_names() {
  std::map<std::string, ReplicaMask> found;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!is_in(i)) continue;
    auto names = co_await ring_.list(options_.folders[i] + "/disks");
    if (!names && names.error().code != Errc::kNotFound) co_return names.error();
    if (!names) continue;
    for (const std::string& name : *names) found[name] |= 1U << i;
  }
  for (const auto& [name, copies] : found) {
    if (storages_.count(name) != 0) {
      present_.insert(name);
      continue;
    }
    // Left alone: it is the catalog that may be wrong. The daemon removes what is surely a former
    // storage of a disk.
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      if (!in_mask(copies, i)) continue;
      find(Kind::kNote, name, i, "an orphan: no disk and no snapshot has this storage");
    }
  }
  for (const auto& [name, storage] : storages_) {
    if (present_.count(name) == 0 && storage.must_exist) {
      find(Kind::kLost, name, std::nullopt, "no replica in sync has the storage of {}",
           storage.owner);
    }
  }
  for (const std::string& name : present_) co_await check_files(name);
  auto indexes = co_await ring_.list(options_.index_root);
  if (!indexes) co_return Result<void>{};
  for (const std::string& name : *indexes) {
    std::string storage = name;
    if (storage.ends_with("-chain")) storage.resize(storage.size() - 6);
    if (storages_.count(storage) != 0) continue;
    find(Kind::kNote, name, std::nullopt, "an orphan: an index of no storage");
  }
  co_return Result<void>{};
}

Task<void> RootChecker::check_files(const std::string& storage) {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!is_in(i)) continue;
    const std::string folder = options_.folders[i] + "/disks/" + storage;
    auto names = co_await ring_.list(folder);
    if (!names) continue;
    for (const std::string& name : *names) {
      const bool digits = name.find_first_not_of("0123456789abcdef", 8) == std::string::npos;
      if (name.starts_with("segment-") && name.size() == 24 && digits) continue;
      if (name.starts_with("spare-")) continue;
      find(Kind::kNote, storage, i, "an orphan: {} is no file of ours", name);
    }
  }
}

Task<Result<void>> RootChecker::add_up() {
  for (const std::string& name : present_) {
    if (!wanted(storages_.at(name))) continue;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      if (!is_in(i)) continue;
      auto names = co_await ring_.list(options_.folders[i] + "/disks/" + name);
      if (names)
        total_bytes_ += static_cast<std::uint64_t>(std::count_if(
                            names->begin(), names->end(),
                            [](const auto& one) { return one.starts_with("segment-"); })) *
                        kSegmentSize;
    }
  }
  co_return Result<void>{};
}

}  // namespace clouddisk::snapshot
