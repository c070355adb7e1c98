// sim_machine.cc: devices, faults, power loss and what a test sees of the medium. Folder operations
// are in sim_names.cc.
#include "engine/ring/sim_machine.h"

#include <algorithm>
#include <set>

#include "engine/ring/sim_kv.h"
#include "engine/ring/sim_ring.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kRootCapacity = 1_TiB;

// From 1 to 4 s; a history lasts seconds.
Duration journal_age(std::uint64_t seed) {
  return std::chrono::seconds(1 + seed % 4);
}

bool lies_below(std::string_view path, std::string_view prefix) {
  if (prefix == "/") return true;
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

}  // namespace

SimMachine::SimMachine(std::uint64_t seed) : random_(seed), journal_age_(journal_age(seed)) {
  devices_.push_back(Device{"/", 1, kRootCapacity, 0});
  root_ = std::make_shared<Node>();
  root_->is_directory = true;
  root_->inode = next_inode_++;
  root_->device = &devices_.front();
  root_->names = 1;
}

SimMachine::~SimMachine() {
  CHECK(ring_ == nullptr);
}

void SimMachine::add_device(const std::string& prefix, std::uint64_t capacity) {
  const std::string path = normal_path(prefix);
  CHECK(!exists(path));
  devices_.push_back(Device{path, devices_.size() + 1, capacity, 0});
}

void SimMachine::set_capacity(const std::string& prefix, std::uint64_t capacity) {
  Device* device = device_of(normal_path(prefix));
  CHECK(device->prefix == normal_path(prefix));
  device->capacity = capacity;
}

SimMachine::Device* SimMachine::device_of(std::string_view path) {
  Device* best = &devices_.front();
  for (Device& device : devices_) {
    if (lies_below(path, device.prefix) && device.prefix.size() >= best->prefix.size()) {
      best = &device;
    }
  }
  return best;
}

void SimMachine::set_faults(const std::string& prefix, const SimFaults& faults) {
  faults_[normal_path(prefix)] = faults;
  if (ring_ != nullptr) ring_->faults_changed();
}

void SimMachine::clear_faults() {
  faults_.clear();
  if (ring_ != nullptr) ring_->faults_changed();
}

const SimFaults& SimMachine::faults(std::string_view path) const {
  static const SimFaults kNone;
  if (faults_.empty()) return kNone;
  const std::pair<const std::string, SimFaults>* best = nullptr;
  for (const auto& entry : faults_) {
    if (!lies_below(path, entry.first)) continue;
    if (best == nullptr || entry.first.size() > best->first.size()) best = &entry;
  }
  return best == nullptr ? kNone : best->second;
}

bool SimMachine::reserve(Node& node, std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t missing = node.file.missing_bytes(offset, length);
  if (missing > 0 && node.charged) {
    Device& device = *node.device;
    if (device.used > device.capacity || missing > device.capacity - device.used) return false;
    device.used += missing;
  }
  node.file.reserve(offset, length);
  return true;
}

bool SimMachine::resize_kv(Node& node, std::uint64_t bytes) {
  Device& device = *node.device;
  if (node.charged) {
    const std::uint64_t others = device.used - node.kv_bytes;
    if (bytes > node.kv_bytes && (others > device.capacity || bytes > device.capacity - others)) {
      return false;
    }
    device.used = others + bytes;
  }
  node.kv_bytes = bytes;
  return true;
}

// The bytes of a file without a name are free once nobody has it open.
void SimMachine::settle_charge(Node& node) {
  const bool charged = node.names > 0 || node.opens > 0;
  if (charged == node.charged) return;
  node.charged = charged;
  if (charged) {
    node.device->used += node.bytes();
  } else {
    node.device->used -= node.bytes();
  }
}

void SimMachine::end_process() {
  ring_ = nullptr;
  for (auto& [id, open] : open_files_) {
    --open.node->opens;
    settle_charge(*open.node);
  }
  open_files_.clear();
}

void SimMachine::never_lose_power() {
  CHECK(root_->children.empty());
  may_lose_power_ = false;
}

void SimMachine::power_loss() {
  CHECK(may_lose_power_);
  CHECK(ring_ == nullptr);
  // Sometimes nothing was written back, sometimes all, mostly some.
  static constexpr std::uint64_t kPercents[] = {0, 10, 50, 50, 90, 100};
  const auto percent = [this] { return kPercents[random_.below(std::size(kPercents))]; };

  std::set<std::pair<const Node*, std::string>> lost;
  const std::uint64_t names_percent = percent();
  for (const JournalEntry& entry : journal_) {
    bool survives = random_.below(100) < names_percent;
    for (const NameChange& change : entry.changes) {
      if (lost.contains({change.directory.get(), change.name})) survives = false;
    }
    if (survives) {
      apply_durably(entry);
      continue;
    }
    for (const NameChange& change : entry.changes) {
      lost.insert({change.directory.get(), change.name});
    }
  }
  journal_.clear();

  // What is reachable now is all there is.
  std::vector<NodeRef> nodes{root_};
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const NodeRef node = nodes[i];
    node->children = node->durable_children;
    for (const auto& [name, child] : node->children) nodes.push_back(child);
  }
  const std::uint64_t data_percent = percent();
  for (const NodeRef& node : nodes) {
    node->file.power_loss(random_, data_percent);
    if (node->kv != nullptr) node->kv_bytes = node->kv->power_loss(random_);
  }
  count_everything();
}

void SimMachine::count_everything() {
  for (Device& device : devices_) device.used = 0;
  std::vector<NodeRef> nodes{root_};
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const NodeRef node = nodes[i];
    node->names = 1;
    node->charged = true;
    node->device->used += node->bytes();
    for (const auto& [name, child] : node->children) nodes.push_back(child);
  }
}

bool SimMachine::exists(const std::string& path) const {
  return find(normal_path(path)) != nullptr;
}

std::vector<std::string> SimMachine::files_below(const std::string& path) const {
  std::vector<std::string> files;
  const NodeRef top = find(normal_path(path));
  if (top == nullptr) return files;
  std::vector<std::pair<std::string, NodeRef>> nodes{{normal_path(path), top}};
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const auto [name, node] = nodes[i];
    if (!node->is_directory) files.push_back(name);
    for (const auto& [child, child_node] : node->children) {
      nodes.emplace_back((name == "/" ? "" : name) + "/" + child, child_node);
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::optional<std::vector<std::byte>> SimMachine::content(const std::string& path) const {
  const NodeRef node = find(normal_path(path));
  if (node == nullptr || node->is_directory) return std::nullopt;
  std::vector<std::byte> bytes(node->file.size());
  node->file.read(0, bytes);
  return bytes;
}

bool SimMachine::flip_bit(const std::string& path, std::uint64_t offset, unsigned bit) {
  const NodeRef node = find(normal_path(path));
  if (node == nullptr || offset >= node->file.size()) return false;
  node->file.flip_bit(offset, bit);
  return true;
}

std::optional<std::string> SimMachine::rot(const std::string& path) {
  std::vector<std::string> files = files_below(path);
  std::erase_if(files, [this](const std::string& name) { return find(name)->file.size() == 0; });
  if (files.empty()) return std::nullopt;
  const std::string& name = files[random_.below(files.size())];
  const std::uint64_t offset = random_.below(find(name)->file.size());
  CHECK(flip_bit(name, offset, static_cast<unsigned>(random_.below(8))));
  return name;
}

std::vector<std::string> SimMachine::folders_in(const std::string& path) const {
  std::vector<std::string> names;
  const NodeRef node = find(normal_path(path));
  if (node == nullptr) return names;
  for (const auto& [name, child] : node->children) {
    if (child->is_directory) names.push_back(name);
  }
  return names;
}

std::uint64_t SimMachine::used_bytes(const std::string& prefix) {
  return device_of(normal_path(prefix))->used;
}

struct SimMachine::Image {
  NodeRef top;
};

SimMachine::NodeRef SimMachine::copy_of(const Node& node) {
  auto copy = std::make_shared<Node>();
  copy->is_directory = node.is_directory;
  copy->inode = next_inode_++;
  copy->device = node.device;
  copy->names = 1;
  copy->file = node.file.copy();
  if (node.kv != nullptr) copy->kv = std::make_shared<SimKvStore>(*node.kv);
  copy->kv_bytes = node.kv_bytes;
  for (const auto& [name, child] : node.children) copy->children[name] = copy_of(*child);
  copy->durable_children = copy->children;
  return copy;
}

std::shared_ptr<const SimMachine::Image> SimMachine::image_of(const std::string& path) const {
  const NodeRef node = find(normal_path(path));
  CHECK(node != nullptr && ring_ == nullptr);
  auto image = std::make_shared<Image>();
  image->top = const_cast<SimMachine*>(this)->copy_of(*node);
  return image;
}

void SimMachine::put_back(const std::string& path, const Image& image) {
  CHECK(ring_ == nullptr);
  const auto [parent, name] = find_parent(path);
  CHECK(parent != nullptr);
  // What is still to become durable of the former folder is gone with it.
  const NodeRef node = copy_of(*image.top);
  parent->children[name] = node;
  parent->durable_children[name] = node;
  count_everything();
}

bool SimMachine::corrupt_kv(const std::string& directory) {
  const NodeRef node = find(normal_path(directory) + "/data.mdb");
  if (node == nullptr || node->kv == nullptr) return false;
  node->kv->corrupt();
  return true;
}

}  // namespace clouddisk
