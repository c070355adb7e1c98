// kv.h: an ordered, transactional key-value environment in one folder: LMDB in the real ring
// (lmdb_kv.h), a model of it in the simulator. The map's checkpoints, the catalog and the snapshot
// chain live in it.
//
// Thread: every call blocks, so it is made on a worker (Ring::blocking). One write transaction at a
//   time; a transaction is used and ended within one blocking() call. A commit may wait for readers
//   to end: who commits holds none of the same environment.
// Durability: commit() returns once the transaction is on the device. After a crash the environment
//   is exactly as some commit left it.
// Errors: kCorrupt when the file is damaged (checked at open, before anything is believed);
//   kNoSpace leaves the environment as it was; kUnsupported for a newer format.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "engine/base/result.h"

namespace clouddisk {

struct KvOptions {
  bool create = true;  // false: kNotFound when there is none
  // The commit is left to the next sync(): for data that can be rebuilt (the map's index).
  // A crash may then leave an older commit, never a mixture.
  bool lazy_sync = false;
};

using KvBytes = std::span<const std::byte>;
inline constexpr std::size_t kKvKeyMax = 511;  // LMDB's, as Debian builds it

// Keys are ordered as unsigned bytes. Views stay valid until the transaction ends or is written to.
class KvReader {
 public:
  virtual ~KvReader() = default;

  virtual Result<std::optional<KvBytes>> get(KvBytes key) = 0;

  struct Entry {
    KvBytes key;
    KvBytes value;
  };
  // The first entry with a key >= `key` (lower_bound), or the last with a key <= `key` (floor).
  virtual Result<std::optional<Entry>> lower_bound(KvBytes key) = 0;
  virtual Result<std::optional<Entry>> floor(KvBytes key) = 0;
  // Every entry in [first, last), in order, until `visit` returns false.
  virtual Result<void> scan(KvBytes first, KvBytes last,
                            const std::function<bool(KvBytes key, KvBytes value)>& visit) = 0;
};

// Dropping it without commit() loses the change, never half of it.
class KvWriter : public KvReader {
 public:
  virtual Result<void> put(KvBytes key, KvBytes value) = 0;
  virtual Result<void> erase(KvBytes key) = 0;  // fine if missing
  virtual Result<void> erase_range(KvBytes first, KvBytes last) = 0;
  // Ends the transaction, whatever the answer.
  [[nodiscard]] virtual Result<void> commit() = 0;
};

class Kv {
 public:
  virtual ~Kv() = default;
  virtual Result<std::unique_ptr<KvReader>> read() = 0;
  virtual Result<std::unique_ptr<KvWriter>> write() = 0;
  // Makes every commit so far durable (with lazy_sync).
  virtual Result<void> sync() = 0;
  virtual std::uint64_t size_bytes() const = 0;  // of its file, for metrics
};

}  // namespace clouddisk
