// sim_ring.h: the ring over a simulated machine: one thread, virtual time, every outcome from the
// machine's seed. The same seed and the same calls give the same run, to the last completion.
//
// Time starts at zero with the machine and jumps to the next event when nothing is ready. Code
//   takes none, but a coroutine that spins (yield() in a loop) does not stop the clock. Operations
//   complete after a latency drawn from their range, so in any order.
//
// How a test ends a "process": destroy the ring. What was under way has happened, partly happened
//   or not happened; no coroutine is resumed; files close. What the process had in memory points to
//   a ring that is gone, so it must be left as it is, not destroyed:
//
//     SimMachine machine(announce_seed());
//     auto ring = std::make_unique<SimRing>(machine);
//     auto disk = std::make_unique<Disk>(*ring);  // owns pools, files, ...
//     spawn(work(*disk));
//     ring->run_until([&] { return steps > 100; });
//     Graveyard::bury(std::move(disk));  // Its destructor never runs.
//     ring.reset();                      // The end of the process: kill -9.
//     machine.power_loss();              // And of the machine, if the test wants that.
//     ring = std::make_unique<SimRing>(machine);
//
//   Buried memory stays reachable, so a leak checker keeps quiet about it; suspended coroutines
//   are buried by the ring. Buffers under way must be alive when the ring goes.
//
// Faults (SimFaults in sim_machine.h, and calls on SimMachine):
//   latency in any order; slow or hung devices; a process that dies at any await; power loss that
//   keeps any subset of unsynced sectors, sizes and names; errors of read, write, datasync and
//   folder operations; a failed datasync that drops what it covered; device full, gone, read-only;
//   flipped bits on read; rot on the medium; torn, lost and misdirected writes that claim success;
//   damaged or deleted files, folders and environments.
// Three replicas must survive, without losing what was acknowledged as durable:
//   - a process's death and a power loss at any moment, on all three at once;
//   - any of the above on one replica, however often; a replica that is away and comes back;
//   - flipped bits, rot, torn, lost and misdirected writes of a block on up to two replicas, as
//     long as one has it right;
//   - a full, slow or hung replica (the others go on after the time limit).
//   They need not survive the same block being wrong in all three; then they must say so (I4).
// What it catches beyond faults: direct I/O with unaligned memory, offset or length (-EINVAL), a
//   payload that changes while it is being written (CHECK), a file closed under an operation
//   (CHECK), waiting for what can never happen (run_until stops the process).
#pragma once

#include <coroutine>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/random.h"
#include "engine/ring/folder_syncs.h"
#include "engine/ring/ring.h"
#include "engine/ring/sim_machine.h"
#include "engine/ring/timer_heap.h"

namespace clouddisk {

struct SimLatency {
  Duration min{0};
  Duration max{0};
};

// What dead processes leave behind. Nothing here is ever destroyed.
class Graveyard {
 public:
  template <class T>
  static void bury(std::unique_ptr<T> object) {
    keep(object.release());
  }
  static void bury(std::coroutine_handle<> frame) { keep(frame.address()); }

 private:
  static void keep(void* memory);
};

class SimRing final : public Ring {
 public:
  struct Options {
    SimLatency read{std::chrono::microseconds(20), std::chrono::microseconds(500)};
    SimLatency write{std::chrono::microseconds(20), std::chrono::microseconds(500)};
    SimLatency datasync{std::chrono::microseconds(100), std::chrono::milliseconds(4)};
    SimLatency names{std::chrono::microseconds(20), std::chrono::milliseconds(1)};
    SimLatency blocking{std::chrono::microseconds(5), std::chrono::microseconds(200)};
    // One write in so many is checked for a payload that changes while it is being written.
    std::uint64_t payload_check_one_in = 1;
  };

  // One ring at a time on a machine, which outlives it.
  explicit SimRing(SimMachine& machine) : SimRing(machine, Options()) {}
  SimRing(SimMachine& machine, Options options);
  ~SimRing() override;

  SimMachine& machine() { return machine_; }
  // A digest of everything that has happened so far: equal for equal runs.
  std::uint64_t trace() const { return trace_; }
  // Runs whatever happens within `duration`; the clock then stands at its end.
  void run_for(Duration duration);

  TimePoint now() const override { return machine_.now_; }
  WallTime wall_now() const override { return machine_.wall_now(); }
  void schedule(std::coroutine_handle<> handle) override { ready_.push_back(handle); }
  void post(std::function<void()> function) override;
  // Stops the process when nothing is left to happen and done() is false.
  void run_until(const std::function<bool()>& done) override;

  void start_timer(TimePoint when, Completion& completion) override;
  bool cancel_timer(Completion& completion) override;

  void start_read(int file, std::uint64_t offset, std::span<std::byte> into,
                  Completion& completion) override;
  void start_write(int file, std::uint64_t offset, std::span<const iovec> from,
                   Completion& completion) override;
  void start_datasync(int file, Completion& completion) override;
  void start_allocate(int file, std::uint64_t offset, std::uint64_t length,
                      Completion& completion) override;
  void close_file(int file) override { machine_.close(file); }

  Task<Result<File>> open(std::string path, OpenOptions options) override;
  Task<Result<void>> make_directories(std::string path) override;
  Task<Result<void>> rename(std::string from, std::string to) override;
  Task<Result<void>> remove(std::string path) override;
  Task<Result<void>> remove_tree(std::string path) override;
  Task<Result<std::vector<std::string>>> list(std::string directory) override;
  Task<Result<void>> sync_directory(std::string path) override;
  Task<Result<FileInfo>> stat(std::string path) override;
  Task<Result<SpaceInfo>> space(std::string path) override;

  Result<std::unique_ptr<Kv>> open_kv(const std::string& directory,
                                      const KvOptions& options) override;

  void start_blocking(std::function<void()> function, Completion& completion) override;

  // There are no sockets: -EOPNOTSUPP.
  void start_accept(int listener, Completion& completion) override;
  void start_receive(int socket, std::span<std::byte> into, Completion& completion) override;
  void start_send(int socket, std::span<const iovec> from, Completion& completion) override;

 private:
  friend class SimMachine;

  struct Operation {
    enum class Kind { kRead, kWrite, kDatasync, kAllocate, kBlocking, kAnswer, kLateWrite };
    Kind kind = Kind::kAnswer;
    Completion* completion = nullptr;
    SimMachine::OpenFile* open = nullptr;  // what it is on; its path's faults count
    std::string path;                      // of a folder operation: whose faults count
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::span<std::byte> into;
    std::vector<iovec> from;
    std::vector<std::byte> payload;  // of a write that is checked: as it was at the start
    SimFile::Sync sync;
    std::function<void()> function;
    SimMachine::NodeRef node;  // of a late write: nobody waits for it, and the file may be closed
    std::int32_t result = 0;
    bool parked = false;  // the device hangs
  };
  using When = std::pair<TimePoint, std::uint64_t>;  // the order breaks ties

  Duration draw(const SimLatency& latency);
  const SimFaults& faults_of(const Operation& operation) const;
  void add(Operation operation, const SimLatency& latency);
  void answer(Completion& completion, std::int32_t result);
  // An operation on an open file; with a null pointer the answer is -EBADF and on its way.
  SimMachine::OpenFile* attach(Operation& operation, int file, Completion& completion);

  bool step();                  // false: nothing is left to happen
  TimePoint next_time() const;  // of a timer or an operation; max(): there is none
  void happen(Operation& operation);
  std::int32_t perform(Operation& operation);
  std::int32_t perform_read(const Operation& operation, const SimFaults& faults);
  std::int32_t perform_write(Operation& operation, const SimFaults& faults);
  void write_late(Operation& operation);
  void misdirect(const Operation& operation);
  void write_whole(SimFile& file, const Operation& operation);
  std::int32_t perform_datasync(const Operation& operation, const SimFaults& faults);
  void abandon(Operation& operation);
  void deliver(Completion& completion, std::int32_t result, std::uint64_t what);
  void faults_changed();

  // Half the latency, the change, and the other half: a process that dies in between never learns
  // whether it was made.
  template <class F>
  Task<std::invoke_result_t<F>> on_names(std::string path, F change);
  Task<Result<void>> sync_directory_alone(std::string path);
  void start_names(const std::string& path, Completion& completion);

  SimMachine& machine_;
  const Options options_;
  Random random_;
  FolderSyncs folder_syncs_;
  std::deque<std::coroutine_handle<>> ready_;
  TimerHeap timers_;
  std::map<When, Operation> operations_;
  std::uint64_t next_order_ = 0;
  std::uint64_t resumed_at_once_ = 0;  // since time went on
  std::uint64_t trace_ = 0;
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
};

}  // namespace clouddisk
