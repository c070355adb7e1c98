// volume.h: a disk with its past: the storages that hold its content, the chain of its snapshots,
// and the captures under way between them.
//
// A disk has one current storage. A rollback gives it a new one, empty, over the snapshot it goes
// back to; the old one stays as long as something needs it (a capture, an undo). Who owns a Volume
// keeps the catalog, and tells it what exists; the Volume opens what is needed for it and no more.
//
// Thread: one ring, with everything that it opens.
// Errors: values; after an error the same call can be made again.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "snapshot/capture.h"
#include "snapshot/snapshot_source.h"

namespace clouddisk::snapshot {

// A snapshot as the catalog has it.
struct SnapshotState {
  std::uint64_t seq = 0;
  std::uint64_t size_bytes = 0;
  std::string storage;       // where it was frozen
  Epoch epoch;               // of that storage
  std::uint64_t parent = 0;  // sequence its content descends from; 0: none
  bool captured = false;
};

// The moment at which a storage had the content of a snapshot that was captured.
struct ReferencePoint {
  std::uint64_t seq = 0;  // 0: none
  std::string storage;
  Epoch epoch;
};

struct StorageState {
  std::string name;  // of its folders
  std::uint64_t size_bytes = 0;
  std::shared_ptr<BlockSource> base;  // null: nothing is borrowed
  std::uint64_t base_seq = 0;         // when the base is a snapshot of our own chain
};

class Volume {
 public:
  struct Options {
    Disk::Options disk;
    Chain::Options chain;
    std::string index_root;  // <root>/index
    PaceLimits pace{};       // of captures and repacking, each
  };

  // The pack's environment is on the same ring; see Chain about its memory.
  Volume(DiskEnvironment& environment, DiskEnvironment& pack_environment, std::string chain_id,
         Options options);
  ~Volume();  // after close()

  // --- What exists; before anything that depends on it is opened ---
  void know(SnapshotState snapshot);
  void set_reference(ReferencePoint reference) { reference_ = std::move(reference); }

  // --- Storages ---
  static Task<Result<void>> create_storage(DiskEnvironment& environment, const Options& options,
                                           const StorageState& storage);
  static Task<Result<void>> remove_storage(DiskEnvironment& environment, const Options& options,
                                           std::string name);
  // Open while somebody holds it; every open() needs its release().
  Task<Result<std::shared_ptr<Disk>>> open(StorageState storage);
  Task<Result<void>> release(std::string name);
  // Everything was hydrated, and is on record as such.
  Task<void> forget_base(std::string storage);
  // Null: not open.
  std::shared_ptr<Disk> find(const std::string& name) const;
  // Nothing is open, and no snapshot is known.
  bool is_idle() const {
    return storages_.empty() && chain_ == nullptr && snapshots_.empty() && sources_.empty();
  }

  // --- Snapshots ---
  // What a snapshot shows. One that is not captured holds its storage open: open(storage) first.
  Task<Result<std::shared_ptr<SnapshotSource>>> source(std::uint64_t seq);
  // Brings the oldest snapshot that is not captured into the chain. Its storage must be open.
  Task<Result<CaptureCursor>> capture(std::uint64_t seq,
                                      std::function<void(const CaptureProgress&)> progress);
  // The catalog knows that it is captured: readers go to the chain, the frozen view is let go, and
  // the moment becomes the reference.
  void captured(std::uint64_t seq);
  // It is gone for good, captured or not.
  Task<Result<void>> drop(std::uint64_t seq);
  Task<Result<std::shared_ptr<Chain>>> chain();
  std::shared_ptr<Chain> open_chain() const { return chain_; }  // null: not open
  // Whether the open disk still tells by place what changed since the snapshot.
  bool is_reference(std::uint64_t seq, const Disk& disk) const;
  // Null: nobody asked for it yet.
  std::shared_ptr<SnapshotSource> find_source(std::uint64_t seq) const;
  bool has_uncaptured(const std::string& storage) const;
  // After the last snapshot was dropped.
  Task<Result<void>> remove_chain();

  // Ends captures; closes everything. No other call may be under way. Where volumes borrow from
  // each other's snapshots, all close their storages first.
  Task<Result<void>> close_storages();
  Task<Result<void>> close();
  void stop_captures() { stopping_ = true; }

 private:
  struct OpenStorage {
    std::shared_ptr<Disk> disk;
    StorageState state;
    unsigned holders = 0;
  };
  Disk::Identity identity(const StorageState& storage) const;
  Chain::Identity chain_identity() const;
  std::uint64_t client_requests() const;  // of all storages that are open
  Task<Result<void>> drop_from_chain(std::uint64_t seq);

  DiskEnvironment& environment_;
  DiskEnvironment& pack_environment_;
  std::string chain_id_;
  Options options_;
  AsyncMutex opening_;
  std::map<std::string, OpenStorage> storages_;
  std::map<std::uint64_t, SnapshotState> snapshots_;
  std::map<std::uint64_t, std::shared_ptr<SnapshotSource>> sources_;
  ReferencePoint reference_;
  std::shared_ptr<Chain> chain_;
  bool stopping_ = false;
};

}  // namespace clouddisk::snapshot
