#include "engine/ring/sim_kv.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

namespace clouddisk {

struct SimKvMap::Node {
  std::shared_ptr<const std::string> key;
  std::shared_ptr<const std::string> value;
  std::uint64_t priority = 0;
  std::uint64_t bytes = 0;  // of the whole subtree
  Ref left;
  Ref right;
};

namespace {

using Node = SimKvMap::Node;
using Ref = SimKvMap::Ref;

constexpr std::uint64_t kEntryCost = 16;  // about what LMDB keeps beside a key and its value

std::uint64_t bytes_of(const Ref& node) {
  return node != nullptr ? node->bytes : 0;
}

Ref with_children(const Node& node, Ref left, Ref right) {
  auto copy = std::make_shared<Node>(node);
  copy->left = std::move(left);
  copy->right = std::move(right);
  copy->bytes = copy->key->size() + copy->value->size() + kEntryCost + bytes_of(copy->left) +
                bytes_of(copy->right);
  return copy;
}

// Everything below `key`, and the rest. std::string compares as unsigned bytes.
std::pair<Ref, Ref> split(const Ref& node, std::string_view key) {
  if (node == nullptr) return {};
  if (std::string_view(*node->key) < key) {
    auto [low, high] = split(node->right, key);
    return {with_children(*node, node->left, std::move(low)), std::move(high)};
  }
  auto [low, high] = split(node->left, key);
  return {std::move(low), with_children(*node, std::move(high), node->right)};
}

// Every key of `low` is below every key of `high`.
Ref merge(const Ref& low, const Ref& high) {
  if (low == nullptr) return high;
  if (high == nullptr) return low;
  if (low->priority > high->priority) {
    return with_children(*low, low->left, merge(low->right, high));
  }
  return with_children(*high, merge(low, high->left), high->right);
}

KvReader::Entry entry_of(const Node& node) {
  return {as_bytes(*node.key), as_bytes(*node.value)};
}

bool visit_range(const Ref& node, std::string_view first, std::string_view last,
                 const std::function<bool(KvBytes, KvBytes)>& visit) {
  if (node == nullptr) return true;
  const std::string_view key(*node->key);
  if (key >= first && !visit_range(node->left, first, last, visit)) return false;
  if (key >= first && key < last && !visit(as_bytes(key), as_bytes(*node->value))) return false;
  return key >= last || visit_range(node->right, first, last, visit);
}

Result<void> check_key(KvBytes key) {
  if (key.empty() || key.size() > kKvKeyMax) {
    return fail(Errc::kInvalid, "a key of {} bytes; 1 to {} are possible", key.size(), kKvKeyMax);
  }
  return {};
}

}  // namespace

std::optional<KvBytes> SimKvMap::get(KvBytes key) const {
  const auto found = lower_bound(key);
  if (!found || as_text(found->key) != as_text(key)) return std::nullopt;
  return found->value;
}

std::optional<KvReader::Entry> SimKvMap::lower_bound(KvBytes key) const {
  std::optional<KvReader::Entry> best;
  for (const Node* node = root_.get(); node != nullptr;) {
    if (std::string_view(*node->key) >= as_text(key)) {
      best = entry_of(*node);
      node = node->left.get();
    } else {
      node = node->right.get();
    }
  }
  return best;
}

std::optional<KvReader::Entry> SimKvMap::floor(KvBytes key) const {
  std::optional<KvReader::Entry> best;
  for (const Node* node = root_.get(); node != nullptr;) {
    if (std::string_view(*node->key) <= as_text(key)) {
      best = entry_of(*node);
      node = node->right.get();
    } else {
      node = node->left.get();
    }
  }
  return best;
}

void SimKvMap::scan(KvBytes first, KvBytes last,
                    const std::function<bool(KvBytes, KvBytes)>& visit) const {
  visit_range(root_, as_text(first), as_text(last), visit);
}

SimKvMap SimKvMap::put(KvBytes key, KvBytes value) const {
  auto [low, rest] = split(root_, as_text(key));
  const std::string after = std::string(as_text(key)) + '\0';
  auto [old, high] = split(rest, after);
  Node node;
  node.key = old != nullptr ? old->key : std::make_shared<const std::string>(as_text(key));
  node.value = std::make_shared<const std::string>(as_text(value));
  node.priority = checksum64(key);
  return SimKvMap(merge(merge(low, with_children(node, nullptr, nullptr)), high));
}

SimKvMap SimKvMap::erase_range(KvBytes first, KvBytes last) const {
  if (as_text(first) >= as_text(last)) return *this;
  auto [low, rest] = split(root_, as_text(first));
  auto [gone, high] = split(rest, as_text(last));
  return SimKvMap(merge(low, high));
}

SimKvMap SimKvMap::erase(KvBytes key) const {
  const std::string after = std::string(as_text(key)) + '\0';
  return erase_range(key, as_bytes(after));
}

std::uint64_t SimKvMap::bytes() const {
  return bytes_of(root_);
}

std::uint64_t SimKvStore::power_loss(Random& random) {
  if (random.one_in(2)) current_ = durable_;
  durable_ = current_;
  return file_bytes(current_);
}

// --- Transactions ---

namespace {

template <class Base>
class Transaction : public Base {
 public:
  explicit Transaction(SimKvMap map) : map_(std::move(map)) {}
  Result<std::optional<KvBytes>> get(KvBytes key) override {
    if (auto valid = check_key(key); !valid) return valid.error();
    return map_.get(key);
  }
  Result<std::optional<KvReader::Entry>> lower_bound(KvBytes key) override {
    if (auto valid = check_key(key); !valid) return valid.error();
    return map_.lower_bound(key);
  }
  Result<std::optional<KvReader::Entry>> floor(KvBytes key) override {
    if (auto valid = check_key(key); !valid) return valid.error();
    return map_.floor(key);
  }
  Result<void> scan(KvBytes first, KvBytes last,
                    const std::function<bool(KvBytes, KvBytes)>& visit) override {
    if (auto valid = check_key(first); !valid) return valid;
    map_.scan(first, last, visit);
    return {};
  }

 protected:
  SimKvMap map_;
};

}  // namespace

class SimKvWriter final : public Transaction<KvWriter> {
 public:
  SimKvWriter(SimKv& kv, const SimKvMap& map) : Transaction(map), kv_(kv) {
    CHECK(!kv.writing_);  // The real one would wait for ever.
    kv.writing_ = true;
  }
  ~SimKvWriter() override { end(); }

  Result<void> put(KvBytes key, KvBytes value) override {
    if (auto valid = check_change(key); !valid) return valid;
    map_ = map_.put(key, value);
    return {};
  }
  Result<void> erase(KvBytes key) override {
    if (auto valid = check_change(key); !valid) return valid;
    map_ = map_.erase(key);
    return {};
  }
  Result<void> erase_range(KvBytes first, KvBytes last) override {
    if (auto valid = check_change(first); !valid) return valid;
    map_ = map_.erase_range(first, last);
    return {};
  }
  Result<void> commit() override {
    if (!open_) return fail(Errc::kInvalid, "the transaction has failed or ended");
    end();
    return kv_.commit(std::move(map_));
  }

 private:
  void end() {
    if (std::exchange(open_, false)) kv_.writing_ = false;
  }
  Result<void> check_change(KvBytes key) {
    if (!open_) return fail(Errc::kInvalid, "the transaction has failed or ended");
    auto valid = check_key(key);
    if (!valid) end();
    return valid;
  }

  SimKv& kv_;
  bool open_ = true;
};

// --- The environment ---

Result<std::unique_ptr<Kv>> SimKv::open(SimMachine& machine, const std::string& directory,
                                        const KvOptions& options) {
  auto node = machine.open_kv(directory, options);
  if (!node) return node.error();
  std::unique_ptr<SimKv> kv(
      new SimKv(machine, normal_path(directory), std::move(*node), options.lazy_sync));
  if (auto usable = kv->touch(); !usable) return usable.error();
  return std::unique_ptr<Kv>(std::move(kv));
}

Result<void> SimKv::touch() {
  const SimFaults faults = machine_.faults(directory_);
  if (faults.gone) return fail(Errc::kIo, "{}: the device is gone", directory_);
  machine_.kv_busy_until_ =
      std::max({machine_.kv_busy_until_, faults.hung_until, machine_.now() + faults.slow});
  if (machine_.random_.one_in(faults.read_error)) {
    return fail(Errc::kIo, "{}: input/output error", directory_);
  }
  if (node_->kv->corrupted()) return fail(Errc::kCorrupt, "{}: damaged", directory_);
  return {};
}

Result<std::unique_ptr<KvReader>> SimKv::read() {
  if (auto usable = touch(); !usable) return usable.error();
  return std::unique_ptr<KvReader>(std::make_unique<Transaction<KvReader>>(node_->kv->current()));
}

Result<std::unique_ptr<KvWriter>> SimKv::write() {
  if (auto usable = touch(); !usable) return usable.error();
  return std::unique_ptr<KvWriter>(std::make_unique<SimKvWriter>(*this, node_->kv->current()));
}

Result<void> SimKv::commit(SimKvMap next) {
  if (auto usable = touch(); !usable) return usable;
  const SimFaults faults = machine_.faults(directory_);
  if (faults.read_only) return fail(Errc::kReadOnly, "{}: commit", directory_);
  if (machine_.random_.one_in(faults.write_error) ||
      (!lazy_ && machine_.random_.one_in(faults.datasync_error))) {
    return fail(Errc::kIo, "{}: commit: input/output error", directory_);
  }
  if (machine_.random_.one_in(faults.no_space))
    return fail(Errc::kNoSpace, "{}: commit", directory_);
  if (!machine_.resize_kv(*node_, SimKvStore::file_bytes(next))) {
    return fail(Errc::kNoSpace, "{}: commit", directory_);
  }
  node_->kv->commit(std::move(next), lazy_, machine_.random_);
  return {};
}

Result<void> SimKv::sync() {
  if (auto usable = touch(); !usable) return usable;
  const SimFaults faults = machine_.faults(directory_);
  if (machine_.random_.one_in(faults.datasync_error)) {
    return fail(Errc::kIo, "{}: sync: input/output error", directory_);
  }
  node_->kv->sync();
  return {};
}

std::uint64_t SimKv::size_bytes() const {
  return node_->kv_bytes;
}

}  // namespace clouddisk
