// sim_names.cc: the folder operations of SimMachine, and the journal that makes them durable.
#include <fcntl.h>

#include <cerrno>
#include <set>

#include "engine/ring/sim_kv.h"
#include "engine/ring/sim_machine.h"

namespace clouddisk {
namespace {

std::vector<std::string_view> components(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    if (end > 0 && path.substr(0, end) != ".") parts.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return parts;
}

}  // namespace

std::string normal_path(std::string_view path) {
  std::string result;
  for (const std::string_view part : components(path)) {
    result += '/';
    result += part;
  }
  return result.empty() ? "/" : result;
}

SimMachine::NodeRef SimMachine::find(std::string_view path) const {
  NodeRef node = root_;
  for (const std::string_view part : components(path)) {
    const auto child = node->children.find(std::string(part));
    if (child == node->children.end()) return nullptr;
    node = child->second;
  }
  return node;
}

// The folder that holds the last component, null if there is none, and that component.
std::pair<SimMachine::NodeRef, std::string> SimMachine::find_parent(std::string_view path) const {
  const std::string whole = normal_path(path);
  const std::size_t slash = whole.rfind('/');
  NodeRef parent = find(whole.substr(0, slash));
  if (parent != nullptr && !parent->is_directory) parent = nullptr;
  return {parent, whole.substr(slash + 1)};
}

SimMachine::NodeRef SimMachine::make_node(std::string_view path, bool is_directory) {
  auto node = std::make_shared<Node>();
  node->is_directory = is_directory;
  node->inode = next_inode_++;
  node->device = device_of(normal_path(path));
  if (!may_lose_power_) node->file.forget_medium();
  return node;
}

void SimMachine::change_names(std::vector<NameChange> changes) {
  for (const NameChange& change : changes) {
    auto& children = change.directory->children;
    const auto old = children.find(change.name);
    const NodeRef before = old != children.end() ? old->second : nullptr;
    if (change.node != nullptr) {
      ++change.node->names;
      children[change.name] = change.node;
      settle_charge(*change.node);
    } else if (before != nullptr) {
      children.erase(old);
    }
    if (before != nullptr) {
      --before->names;
      settle_charge(*before);
    }
  }
  commit_old_changes();
  journal_.push_back(JournalEntry{std::move(changes), now_});
}

// Else files that are gone would stay for ever, as a power loss might bring them back. In order,
// and as long as the device takes it.
void SimMachine::commit_old_changes() {
  while (!journal_.empty() && now_ - journal_.front().when > journal_age_) {
    for (const NameChange& change : journal_.front().changes) {
      const SimFaults& now = faults(change.directory->device->prefix);
      if (now.gone || now.read_only || now.hung_until > now_) return;
    }
    apply_durably(journal_.front());
    journal_.pop_front();
  }
}

void SimMachine::apply_durably(const JournalEntry& entry) {
  for (const NameChange& change : entry.changes) {
    if (change.node != nullptr) {
      change.directory->durable_children[change.name] = change.node;
    } else {
      change.directory->durable_children.erase(change.name);
    }
  }
}

// The faults of folder operations and of opening.
Result<void> SimMachine::check_access(std::string_view path, bool changes) {
  const SimFaults now = faults(normal_path(path));
  if (now.gone) return fail(Errc::kIo, "{}: the device is gone", path);
  if (changes && now.read_only) return fail(Errc::kReadOnly, "{}: read-only filesystem", path);
  if (random_.one_in(now.name_error)) return fail(Errc::kIo, "{}: input/output error", path);
  return {};
}

Result<int> SimMachine::open(const std::string& path, const OpenOptions& options) {
  const bool writable = options.access == Access::kReadWrite;
  if (auto access = check_access(path, writable); !access) return access.error();
  NodeRef node = find(path);
  if (node != nullptr && options.create && options.exclusive) {
    return fail_errno(EEXIST, "open {}", path);
  }
  if (node != nullptr && node->is_directory) return fail_errno(EISDIR, "open {}", path);
  if (node == nullptr) {
    if (!options.create) return fail_errno(ENOENT, "open {}", path);
    const auto [parent, name] = find_parent(path);
    if (parent == nullptr) return fail_errno(ENOENT, "open {}", path);
    node = make_node(path, false);
    change_names({NameChange{parent, name, node}});
  }
  ++node->opens;
  const int id = next_file_++;
  open_files_[id] = OpenFile{node, normal_path(path), writable, options.direct, 0};
  return id;
}

SimMachine::OpenFile* SimMachine::open_file(int file) {
  const auto found = open_files_.find(file);
  return found != open_files_.end() ? &found->second : nullptr;
}

void SimMachine::close(int file) {
  const auto found = open_files_.find(file);
  CHECK(found != open_files_.end());
  CHECK(found->second.operations == 0);  // The owner must wait for what it started.
  const NodeRef node = found->second.node;
  open_files_.erase(found);
  --node->opens;
  settle_charge(*node);
}

Result<void> SimMachine::make_directories(const std::string& path) {
  if (auto access = check_access(path, find(path) == nullptr); !access) return access.error();
  NodeRef node = root_;
  std::string so_far;
  for (const std::string_view part : components(path)) {
    so_far += '/';
    so_far += part;
    const std::string name(part);
    auto child = node->children.find(name);
    if (child == node->children.end()) {
      change_names({NameChange{node, name, make_node(so_far, true)}});
      child = node->children.find(name);
    }
    node = child->second;
    if (!node->is_directory) return fail_errno(ENOTDIR, "make folder {}", path);
  }
  return {};
}

Result<void> SimMachine::rename(const std::string& from, const std::string& to) {
  if (auto access = check_access(from, true); !access) return access.error();
  if (auto access = check_access(to, true); !access) return access.error();
  const auto [from_parent, from_name] = find_parent(from);
  const auto [to_parent, to_name] = find_parent(to);
  const NodeRef node = find(from);
  if (node == nullptr || from_parent == nullptr || to_parent == nullptr) {
    return fail_errno(ENOENT, "rename {} to {}", from, to);
  }
  if (node->device != device_of(normal_path(to))) {
    return fail_errno(EXDEV, "rename {} to {}", from, to);
  }
  if ((normal_path(to) + "/").starts_with(normal_path(from) + "/")) {
    if (normal_path(to) == normal_path(from)) return {};
    return fail_errno(EINVAL, "rename {} to {}", from, to);
  }
  if (const NodeRef old = find(to); old != nullptr) {
    if (old->is_directory != node->is_directory) {
      return fail_errno(old->is_directory ? EISDIR : ENOTDIR, "rename {} to {}", from, to);
    }
    if (!old->children.empty()) return fail_errno(ENOTEMPTY, "rename {} to {}", from, to);
  }
  change_names({NameChange{to_parent, to_name, node}, NameChange{from_parent, from_name, nullptr}});
  return {};
}

Result<void> SimMachine::remove(const std::string& path) {
  if (auto access = check_access(path, true); !access) return access.error();
  const NodeRef node = find(path);
  if (node == nullptr) return fail_errno(ENOENT, "remove {}", path);
  if (node == root_) return fail_errno(EBUSY, "remove {}", path);
  if (!node->children.empty()) return fail_errno(ENOTEMPTY, "remove {}", path);
  const auto [parent, name] = find_parent(path);
  change_names({NameChange{parent, name, nullptr}});
  return {};
}

void SimMachine::remove_children(const NodeRef& directory) {
  while (!directory->children.empty()) {
    const auto [name, child] = *directory->children.begin();
    remove_children(child);
    change_names({NameChange{directory, name, nullptr}});
  }
}

Result<void> SimMachine::remove_tree(const std::string& path) {
  if (auto access = check_access(path, true); !access) return access.error();
  const NodeRef node = find(path);
  if (node == nullptr) return {};
  if (node == root_) return fail_errno(EBUSY, "remove {}", path);
  remove_children(node);
  const auto [parent, name] = find_parent(path);
  change_names({NameChange{parent, name, nullptr}});
  return {};
}

Result<std::vector<std::string>> SimMachine::list(const std::string& path) {
  if (auto access = check_access(path, false); !access) return access.error();
  const NodeRef node = find(path);
  if (node == nullptr) return fail_errno(ENOENT, "list {}", path);
  if (!node->is_directory) return fail_errno(ENOTDIR, "list {}", path);
  std::vector<std::string> names;
  for (const auto& [name, child] : node->children) names.push_back(name);
  return names;
}

// Makes the folder's changes durable, and with them those that they build on.
Result<void> SimMachine::sync_directory(const std::string& path) {
  if (auto access = check_access(path, false); !access) return access.error();
  const NodeRef node = find(path);
  if (node == nullptr) return fail_errno(ENOENT, "open folder {}", path);
  if (!node->is_directory) return fail_errno(ENOTDIR, "open folder {}", path);
  if (random_.one_in(faults(normal_path(path)).datasync_error)) {
    return fail(Errc::kIo, "fsync folder {}: input/output error", path);
  }
  std::set<std::pair<const Node*, std::string>> needed;
  std::vector<bool> chosen(journal_.size());
  for (std::size_t i = journal_.size(); i-- > 0;) {
    bool wanted = false;
    for (const NameChange& change : journal_[i].changes) {
      wanted |= change.directory == node || needed.contains({change.directory.get(), change.name});
    }
    if (!wanted) continue;
    chosen[i] = true;
    for (const NameChange& change : journal_[i].changes) {
      needed.insert({change.directory.get(), change.name});
    }
  }
  std::deque<JournalEntry> rest;
  for (std::size_t i = 0; i < journal_.size(); ++i) {
    if (chosen[i]) {
      apply_durably(journal_[i]);
    } else {
      rest.push_back(std::move(journal_[i]));
    }
  }
  journal_ = std::move(rest);
  return {};
}

Result<FileInfo> SimMachine::stat(const std::string& path) {
  if (auto access = check_access(path, false); !access) return access.error();
  const NodeRef node = find(path);
  if (node == nullptr) return fail_errno(ENOENT, "stat {}", path);
  const std::uint64_t size = node->kv != nullptr ? node->kv_bytes : node->file.size();
  return FileInfo{node->is_directory, size, node->device->id, node->inode};
}

Result<SpaceInfo> SimMachine::space(const std::string& path) {
  if (auto access = check_access(path, false); !access) return access.error();
  if (find(path) == nullptr) return fail_errno(ENOENT, "statvfs {}", path);
  const Device* device = device_of(normal_path(path));
  const std::uint64_t used = std::min(device->used, device->capacity);
  return SpaceInfo{device->capacity, device->capacity - used};
}

Result<SimMachine::NodeRef> SimMachine::open_kv(const std::string& directory,
                                                const KvOptions& options) {
  if (auto access = check_access(directory, false); !access) return access.error();
  const std::string path = normal_path(directory) + "/data.mdb";
  NodeRef node = find(path);
  if (node == nullptr) {
    if (!options.create) return fail(Errc::kNotFound, "no environment in {}", directory);
    if (auto made = make_directories(directory); !made) return made.error();
    if (auto access = check_access(directory, true); !access) return access.error();
    node = make_node(path, false);
    node->kv = std::make_shared<SimKvStore>();
    const NodeRef parent = find(directory);
    change_names({NameChange{parent, "data.mdb", node}});
    if (!parent->children.contains("lock.mdb")) {
      change_names({NameChange{parent, "lock.mdb", make_node(path, false)}});
    }
  }
  if (node->kv == nullptr || node->kv->corrupted()) {
    return fail(Errc::kCorrupt, "{}: not a key-value environment, or a damaged one", path);
  }
  return node;
}

}  // namespace clouddisk
