// world.h: one history: a simulated machine, the disks and snapshots on it, what they should hold,
// and everybody who uses them. One thread, virtual time, one seed; nothing here asks for the time
// or for randomness elsewhere, so that the same options give the same history.
//
//   life    from the start of the process to its end: clean, killed at any await, or with the power
//   phase   of a life: clients with requests at once, and the operator beside them; at its end
//   nothing
//           is under way, and what overlapped is read to see how it came out
//   start   everything is recovered and every byte of every disk and snapshot compared
//
// The operator does what the daemon does (tools/clouddiskd), with the same calls in the same order,
// and keeps his records in the catalog's store.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "engine/catalog/catalog_store.h"
#include "engine/ring/sim_ring.h"
#include "snapshot/volume.h"
#include "tests/simulation/model.h"
#include "tests/simulation/options.h"

namespace clouddisk::simulation {

// What the catalog knows of a disk; it outlives the process.
struct VolumeRecord {
  struct Base {
    std::uint64_t volume = 0;  // 0: nothing is borrowed
    std::uint64_t seq = 0;
  };
  std::uint64_t size = 0;  // bytes
  std::string storage;
  struct ByAge {  // "d-10" is younger than "d-9".
    bool operator()(const std::string& a, const std::string& b) const {
      return a.size() != b.size() ? a.size() < b.size() : a < b;
    }
  };
  // The current one, and those that captures need: before those that borrow from them, the oldest
  // first.
  std::map<std::string, Base, ByAge> storages;
  std::uint64_t current = 0;  // sequence that the content descends from
  std::uint64_t last_seq = 0;
  snapshot::ReferencePoint reference;
  std::map<std::uint64_t, snapshot::SnapshotState> snapshots;
  std::set<std::uint64_t> leaving;  // deleted, and perhaps not gone

  std::string encode() const;
  static VolumeRecord decode(const std::string& text);
};

// A disk with its past, and what both should hold.
struct VolumeState {
  VolumeState(std::uint64_t id_, std::uint64_t sectors) : id(id_), model(id_, sectors) {}
  std::uint64_t id;
  VolumeRecord record;
  DiskModel model;
  std::string modelled;  // the storage that the model is of
  struct Past {
    std::optional<Content> content;  // once it was read
    std::uint64_t must = 0;          // when it was taken
    std::uint64_t may = 0;
    std::uint64_t sectors = 0;
  };
  std::map<std::uint64_t, Past> pasts;
  std::uint64_t cursor = 0;  // of sequential requests
};

struct Purge {
  bool wanted = false;
  bool busy = false;
};

// What a daemon has beside its disks: gone with the process.
struct Life {
  explicit Life(Ring& ring);
  FileCache files;
  PageCache pages;
  BufferPool client_buffers;
  BufferPool pack_buffers;
  BufferPool work_buffers;
  BufferPool log_buffers;
  BufferPool header_buffers;
  std::unique_ptr<ReplicaSet> replicas;
  std::unique_ptr<CatalogStore> catalog;
  std::optional<DiskEnvironment> environment;
  std::optional<DiskEnvironment> packs;
  std::map<std::uint64_t, std::unique_ptr<snapshot::Volume>> volumes;
  std::set<std::string> resynced;
  // What removes the files of removed disks, of each replica; it may hang, and outlive this.
  std::array<std::shared_ptr<Purge>, kReplicaCount> purging;
};

struct Outcome {
  std::optional<std::string> failure;
  std::uint64_t step = 0;
  std::uint64_t requests = 0;  // of clients
  std::uint64_t digest = 0;
  std::uint64_t lives = 0;
  std::uint64_t counts[static_cast<std::size_t>(Action::kCount)] = {};
};

class World {
 public:
  explicit World(const Options& options);
  ~World();

  Outcome run();
  // The last actions, oldest first; also for who dies of a CHECK.
  void print_last(std::FILE* out) const;
  std::uint64_t steps() const { return step_; }

 private:
  static constexpr const char* kReplica[] = {"/root/replica-1", "/root/replica-2",
                                             "/root/replica-3"};
  struct Done {  // a line of print_last()
    std::uint64_t step = 0;
    Action action = Action::kRead;
    std::uint64_t volume = 0;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    std::uint64_t begin = 0;
    std::string text;
  };
  struct Phase;

  std::uint64_t tick() { return ++tick_; }
  void fail_history(std::string message);
  Done& note(Action action, std::uint64_t volume, std::uint64_t first, std::uint64_t count);
  void remark(std::string text);

  // world.cc
  void start_process();
  void end_ring();
  bool run_task(Task<void> task);  // false: the process died in the middle
  static Task<void> mark_done(Task<void> task, std::shared_ptr<bool> done);
  void note_soundness();
  void end_life(bool power);
  void close_life();
  Task<void> start();
  Task<Result<void>> open_everything();
  Result<void> take_records();
  Task<Result<void>> remove_strangers();
  Task<void> compare_everything();
  Task<std::optional<Content>> read_disk(VolumeState& volume);
  Task<std::optional<Content>> read_snapshot(VolumeState& volume, std::uint64_t seq);
  Task<void> end_phase();
  Task<void> settle(VolumeState& volume);
  void plan_crash();

  // clients.cc
  struct Habit;  // of a phase: how its clients choose
  Task<void> phase(unsigned clients, std::uint64_t requests);
  Task<void> client(std::shared_ptr<Phase> phase);
  Task<void> request(std::shared_ptr<Phase> phase);
  Task<void> read(VolumeState& volume, std::uint64_t first, std::uint64_t count);
  Task<void> write(VolumeState& volume, std::uint64_t first, std::uint64_t count, bool fua);
  Task<void> trim(VolumeState& volume, std::uint64_t first, std::uint64_t count, bool fua);
  Task<void> flush(VolumeState& volume);
  VolumeState& any_volume();
  std::pair<std::uint64_t, std::uint64_t> range(Phase& phase, VolumeState& volume, bool long_one);
  std::shared_ptr<Disk> disk_of(const VolumeState& volume);
  snapshot::Volume& open_volume(std::uint64_t id) { return *life_->volumes.at(id); }

  // operator.cc
  Task<void> operate(std::shared_ptr<Phase> phase);
  Task<void> between_phases();
  void purge_removed_disks();
  Task<void> purge(unsigned replica, std::shared_ptr<Purge> purging);
  Task<bool> commit(VolumeState& volume, const VolumeRecord& record);
  Task<bool> commit_text(std::string key, std::optional<std::string> text);
  Task<void> create_volume();
  Task<void> take_snapshot(VolumeState& volume);
  Task<void> capture(VolumeState& volume);
  Task<void> drop(VolumeState& volume);
  Task<void> finish_drops(VolumeState& volume);
  Task<void> roll_back(VolumeState& volume);
  Task<void> clone(VolumeState& volume);
  Task<void> hydrate(VolumeState& volume);
  Task<void> resize(VolumeState& volume);
  Task<void> remove_volume(VolumeState& volume);
  Task<void> repack(VolumeState& volume);
  Task<void> look_at_snapshot(VolumeState& volume);
  Task<void> release_unneeded(VolumeState& volume);
  bool is_needed(const VolumeState& volume, std::uint64_t seq) const;
  Task<Result<std::shared_ptr<Disk>>> open_storage(VolumeState& volume, std::string name);
  // The first time, when its index is made: what fails meanwhile is tried again, as the daemon
  // does.
  Task<Result<std::shared_ptr<Disk>>> open_new_storage(VolumeState& volume, std::string name);
  std::optional<std::uint64_t> any_snapshot(const VolumeState& volume, bool known_content);
  Task<void> resync(unsigned replica);
  Task<Result<void>> resync_everything(unsigned replica);
  Task<Result<void>> resync_disk(unsigned replica, std::string storage);
  Task<Result<std::vector<std::string>>> stored_disks();

  // faults.cc
  void choose_faults();   // at the begin of a phase
  void faults_between();  // while the process is down
  void clear_told_faults();
  void clear_all_faults();
  void apply_faults();
  bool excused(const Error& error) const;
  bool is_of_index(const Error& error) const;  // one that the fault of that name makes
  bool all_in_sync() const;

  const Options options_;
  Random random_;
  SimMachine machine_;
  std::unique_ptr<SimRing> ring_;
  std::unique_ptr<Life> life_;
  snapshot::Volume::Options volume_options_;
  std::unique_ptr<AsyncMutex> managing_;  // who opens, closes or removes storages
  std::map<std::uint64_t, std::unique_ptr<VolumeState>> volumes_;
  std::map<std::string, std::string> confirmed_;               // what the catalog has to hold
  std::map<std::string, std::optional<std::string>> pending_;  // what it may hold instead
  std::uint64_t next_volume_ = 1;
  std::uint64_t next_storage_ = 1;

  std::uint64_t busy_one_in_ = 0;  // phases: the operator, who costs as much as a hundred clients
  std::uint64_t tick_ = 0;
  std::uint64_t step_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t lives_ = 0;
  std::uint64_t digest_ = 0;
  std::uint64_t counts_[static_cast<std::size_t>(Action::kCount)] = {};
  std::uint64_t turns_ = 0;
  std::uint64_t crash_at_ = kNever;
  bool power_lost_ = false;  // since everything was compared
  bool recovered_durably_ = true;
  bool former_sound_ = true;  // the others were in sync when the process ended
  bool lost_disk_ = false;    // one was closed and could not be deleted: only a restart opens it
  std::unique_ptr<VolumeState> unborn_;  // a clone on its way
  std::optional<std::string> failure_;
  std::deque<Done> last_;

  unsigned silent_;    // the replica whose faults nobody tells
  unsigned told_ = 0;  // the one with told ones, if any are under way
  bool told_active_ = false;
  bool full_active_ = false;
  TimePoint full_until_{};  // errors of before may still be told
  SimFaults told_faults_;
  SimFaults silent_faults_;
  bool silent_used_ = false;
  std::shared_ptr<const SimMachine::Image> former_;  // of a replica's folder
  unsigned former_of_ = 0;
  std::uint64_t former_life_ = 0;
};

}  // namespace clouddisk::simulation
