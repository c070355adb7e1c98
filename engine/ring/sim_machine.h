// sim_machine.h: the machine below simulated rings: folders, files, key-value environments, devices
// with their faults, and the clock. It outlives the rings, so that a test can end a "process" (the
// ring), cut the power, and start another one over what is left.
//
// Names follow a journal: a change of a folder (create, rename, remove) is durable once
//   sync_directory() of that folder returned, and not before some seconds by itself (the seed says
//   how many). A power loss keeps any of the others, but never one without the earlier ones of the
//   same names; a rename happens whole or not at all.
// Paths are absolute; "a//b/" is "/a/b". A fault or a device belongs to a path prefix of whole
//   components, and the longest one that fits counts.
// Thread: the simulation's. Errors: values, as the kernel would answer.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/random.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/ring/ring.h"
#include "engine/ring/sim_file.h"

namespace clouddisk {

class SimKvStore;
class SimRing;

// What goes wrong below a path. Rates are "one operation in n"; 0 is never.
struct SimFaults {
  std::uint64_t read_error = 0;      // -EIO
  std::uint64_t write_error = 0;     // -EIO, after any part of it was written
  std::uint64_t datasync_error = 0;  // -EIO; what it covered is not dirty any more, durable or not
  std::uint64_t name_error = 0;      // folder operations and opening fail with kIo
  std::uint64_t read_flip = 0;       // one bit of what was read is wrong; the medium is fine
  std::uint64_t no_space = 0;        // -ENOSPC of a write or a reservation; nothing was changed
  // The device says that all is well:
  std::uint64_t torn_write = 0;         // some of the sectors were written
  std::uint64_t lost_write = 0;         // nothing was written
  std::uint64_t misdirected_write = 0;  // written somewhere else on the device
  std::uint64_t delayed_write = 0;      // written up to a second later, over whatever is there then

  Duration slow{0};                         // on top of every latency
  TimePoint hung_until = TimePoint::min();  // nothing completes before; max(): never
  bool gone = false;                        // -EIO for everything
  bool read_only = false;                   // -EROFS for what changes anything
  static constexpr TimePoint kForever = TimePoint::max();
};

class SimMachine {
 public:
  explicit SimMachine(std::uint64_t seed);
  ~SimMachine();
  SimMachine(const SimMachine&) = delete;
  SimMachine& operator=(const SimMachine&) = delete;

  // --- What a test does to the machine. No ring may be alive during power_loss(). ---
  // What lies below `prefix` is a filesystem of `capacity` bytes. Before anything is made there.
  void add_device(const std::string& prefix, std::uint64_t capacity);
  // More or less room from now on; what is there stays.
  void set_capacity(const std::string& prefix, std::uint64_t capacity);
  void set_faults(const std::string& prefix, const SimFaults& faults);
  void clear_faults();
  const SimFaults& faults(std::string_view path) const;  // until they are changed
  // Keeps what is durable and, seeded, any part of what is not.
  void power_loss();
  // Neither that nor a sync that fails will come: files are faster (SimFile::forget_medium). Before
  // any file is made.
  void never_lose_power();

  TimePoint now() const { return now_; }
  // The wall clock steps; it starts at 2026-01-01T00:00:00Z and otherwise runs with now().
  void step_wall_clock(Duration by) { wall_offset_ += by; }
  WallTime wall_now() const {
    return WallTime(kWallStart + now_.time_since_epoch() + wall_offset_);
  }

  // --- The medium, past every fault. ---
  bool exists(const std::string& path) const;
  std::vector<std::string> files_below(const std::string& path) const;  // full paths, sorted
  std::optional<std::vector<std::byte>> content(const std::string& path) const;
  // Turns one bit of a file, false if there is no such byte; or one anywhere in the files below
  // `path` (their names and sizes decide with the seed), giving the file's path.
  bool flip_bit(const std::string& path, std::uint64_t offset, unsigned bit = 0);
  std::optional<std::string> rot(const std::string& path);
  std::vector<std::string> folders_in(const std::string& path) const;  // names, sorted
  std::uint64_t used_bytes(const std::string& prefix);                 // of a device
  // A folder with all that is in it, as it is now; and back in its place, durably, whatever is
  // there by then. No ring may be alive.
  struct Image;
  std::shared_ptr<const Image> image_of(const std::string& path) const;
  void put_back(const std::string& path, const Image& image);
  // The key-value environment in `directory` is damaged: it opens with kCorrupt from now on.
  bool corrupt_kv(const std::string& directory);

 private:
  friend class SimRing;
  friend class SimKv;
  friend class SimKvWriter;

  struct Device {
    std::string prefix;
    std::uint64_t id = 0;
    std::uint64_t capacity = 0;
    std::uint64_t used = 0;
  };
  struct Node {
    bool is_directory = false;
    std::uint64_t inode = 0;
    Device* device = nullptr;
    std::uint32_t names = 0;  // that lead here
    std::uint32_t opens = 0;
    bool charged = true;  // its bytes count in device->used
    SimFile file;
    std::shared_ptr<SimKvStore> kv;  // of a data.mdb
    std::uint64_t kv_bytes = 0;
    std::map<std::string, std::shared_ptr<Node>> children;
    std::map<std::string, std::shared_ptr<Node>> durable_children;
    std::uint64_t bytes() const { return file.allocated_bytes() + kv_bytes; }
  };
  using NodeRef = std::shared_ptr<Node>;
  // A change of names, in the order in which they were made; `node` null: the name goes.
  struct NameChange {
    NodeRef directory;
    std::string name;
    NodeRef node;
  };
  struct JournalEntry {
    std::vector<NameChange> changes;
    TimePoint when{};
  };
  struct OpenFile {
    NodeRef node;
    std::string path;  // when it was opened
    bool writable = false;
    bool direct = false;
    std::uint32_t operations = 0;  // under way
  };

  NodeRef copy_of(const Node& node);

  // Names.
  NodeRef find(std::string_view path) const;
  std::pair<NodeRef, std::string> find_parent(std::string_view path) const;
  NodeRef make_node(std::string_view path, bool is_directory);
  void change_names(std::vector<NameChange> changes);
  static void apply_durably(const JournalEntry& entry);
  void commit_old_changes();
  Result<void> check_access(std::string_view path, bool changes);

  Result<int> open(const std::string& path, const OpenOptions& options);
  void close(int file);
  OpenFile* open_file(int file);
  Result<void> make_directories(const std::string& path);
  Result<void> rename(const std::string& from, const std::string& to);
  Result<void> remove(const std::string& path);
  Result<void> remove_tree(const std::string& path);
  Result<std::vector<std::string>> list(const std::string& path);
  Result<void> sync_directory(const std::string& path);
  Result<FileInfo> stat(const std::string& path);
  Result<SpaceInfo> space(const std::string& path);
  void remove_children(const NodeRef& directory);

  // Space.
  Device* device_of(std::string_view path);
  bool reserve(Node& node, std::uint64_t offset, std::uint64_t length);
  bool resize_kv(Node& node, std::uint64_t bytes);
  void settle_charge(Node& node);
  void count_everything();

  // Environments.
  Result<NodeRef> open_kv(const std::string& directory, const KvOptions& options);

  // A ring's end: its files close.
  void end_process();

  static constexpr Duration kWallStart{1'767'225'600'000'000'000};

  Random random_;
  bool may_lose_power_ = true;
  TimePoint now_{};
  Duration wall_offset_{0};
  SimRing* ring_ = nullptr;
  // How long the environment that was used last keeps its caller waiting.
  TimePoint kv_busy_until_ = TimePoint::min();

  std::list<Device> devices_;
  std::map<std::string, SimFaults> faults_;
  std::uint64_t next_inode_ = 2;
  NodeRef root_;
  std::deque<JournalEntry> journal_;
  const Duration journal_age_;  // after which a file system writes it by itself
  std::map<int, OpenFile> open_files_;
  int next_file_ = 3;
};

// "/a/b" for "a//b/", "/" for nothing.
std::string normal_path(std::string_view path);

}  // namespace clouddisk
