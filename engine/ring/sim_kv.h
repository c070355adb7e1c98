// sim_kv.h: kv.h as a model: an ordered map whose versions share what they have in common. It lives
// on a SimMachine, as the data.mdb of its folder: removing or losing that name loses it.
//
// Durability: a commit is on the medium when it returns. With lazy_sync it reaches the medium at
//   the next sync(), or by itself at any time before: a power loss leaves some commit between the
//   last synced one and the latest. The end of a process loses no commit.
// Faults: those of the folder (SimFaults): gone, read_only, read_error, write_error and
//   datasync_error of a commit (the environment stays as it was), hung_until and slow make the
//   blocking() call around it take longer. Full devices answer kNoSpace.
#pragma once

#include <memory>
#include <string>

#include "engine/base/random.h"
#include "engine/ring/kv.h"
#include "engine/ring/sim_machine.h"

namespace clouddisk {

// An ordered map from bytes to bytes that never changes: put() and erase() give another one, in
// O(log n), sharing what is the same. A treap whose priorities come from the keys.
class SimKvMap {
 public:
  struct Node;
  using Ref = std::shared_ptr<const Node>;

  std::optional<KvBytes> get(KvBytes key) const;
  std::optional<KvReader::Entry> lower_bound(KvBytes key) const;
  std::optional<KvReader::Entry> floor(KvBytes key) const;
  void scan(KvBytes first, KvBytes last, const std::function<bool(KvBytes, KvBytes)>& visit) const;
  SimKvMap put(KvBytes key, KvBytes value) const;
  SimKvMap erase_range(KvBytes first, KvBytes last) const;
  SimKvMap erase(KvBytes key) const;
  // Bytes of keys and values and what they cost to keep.
  std::uint64_t bytes() const;

 private:
  explicit SimKvMap(Ref root) : root_(std::move(root)) {}

 public:
  SimKvMap() = default;

 private:
  Ref root_;
};

// The environment itself, on the machine.
class SimKvStore {
 public:
  const SimKvMap& current() const { return current_; }
  void commit(SimKvMap next, bool lazy, Random& random) {
    current_ = std::move(next);
    if (!lazy || random.one_in(4)) durable_ = current_;
  }
  void sync() { durable_ = current_; }
  // Gives its size afterwards, in bytes of the file.
  std::uint64_t power_loss(Random& random);
  void corrupt() { corrupted_ = true; }
  bool corrupted() const { return corrupted_; }
  static std::uint64_t file_bytes(const SimKvMap& map) {
    return align_up(map.bytes(), kBlockSize) + 2 * kBlockSize;
  }

 private:
  SimKvMap current_;
  SimKvMap durable_;
  bool corrupted_ = false;
};

class SimKv final : public Kv {
 public:
  static Result<std::unique_ptr<Kv>> open(SimMachine& machine, const std::string& directory,
                                          const KvOptions& options);

  Result<std::unique_ptr<KvReader>> read() override;
  Result<std::unique_ptr<KvWriter>> write() override;
  Result<void> sync() override;
  std::uint64_t size_bytes() const override;

 private:
  friend class SimKvWriter;
  SimKv(SimMachine& machine, std::string directory, SimMachine::NodeRef node, bool lazy)
      : machine_(machine), directory_(std::move(directory)), node_(std::move(node)), lazy_(lazy) {}
  // Faults that hit whatever is done; also makes the blocking() call as slow as the device.
  Result<void> touch();
  Result<void> commit(SimKvMap next);

  SimMachine& machine_;
  const std::string directory_;
  const SimMachine::NodeRef node_;
  const bool lazy_;
  bool writing_ = false;
};

}  // namespace clouddisk
