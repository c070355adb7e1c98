// sim_ring.cc: time, coroutines and folder operations of SimRing. Files are in sim_ring_files.cc.
#include "engine/ring/sim_ring.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "engine/ring/sim_kv.h"

namespace clouddisk {
namespace {

// Code takes no virtual time, but one that spins must not stop the clock.
constexpr std::uint64_t kResumedAtOnceMax = 1000;
constexpr Duration kCreep = std::chrono::microseconds(1);

TimePoint add_time(TimePoint when, Duration more) {
  return when > TimePoint::max() - more ? TimePoint::max() : when + more;
}

}  // namespace

void Graveyard::keep(void* memory) {
  static std::vector<void*>& graves = *new std::vector<void*>;
  if (memory != nullptr) graves.push_back(memory);
}

SimRing::SimRing(SimMachine& machine, Options options)
    : machine_(machine),
      options_(options),
      random_(machine.random_.fork()),
      folder_syncs_(*this,
                    [this](std::string path) { return sync_directory_alone(std::move(path)); }) {
  CHECK(machine.ring_ == nullptr);
  machine.ring_ = this;
}

SimRing::~SimRing() {
  for (auto& [when, operation] : operations_) abandon(operation);
  while (Completion* timer = timers_.pop_due(TimePoint::max())) Graveyard::bury(timer->waiter);
  for (const auto handle : ready_) Graveyard::bury(handle);
  // What closures own may use the ring when it is destroyed.
  auto closures = std::make_unique<std::vector<std::function<void()>>>(std::move(posted_));
  for (auto& [when, operation] : operations_) closures->push_back(std::move(operation.function));
  Graveyard::bury(std::move(closures));
  machine_.end_process();
}

Duration SimRing::draw(const SimLatency& latency) {
  const auto spread = static_cast<std::uint64_t>((latency.max - latency.min).count());
  return latency.min + Duration(static_cast<std::int64_t>(random_.below(spread + 1)));
}

void SimRing::post(std::function<void()> function) {
  const std::lock_guard lock(posted_mutex_);
  posted_.push_back(std::move(function));
}

void SimRing::run_until(const std::function<bool()>& done) {
  while (!done()) {
    if (step()) continue;
    const std::string state = fmt::format(
        "SimRing: nothing is left to happen at {} ns and what was waited for is not there; {} "
        "operations hang for ever",
        now().time_since_epoch().count(), operations_.size());
    check_failed(state.c_str(), __FILE__, __LINE__);
  }
}

void SimRing::run_for(Duration duration) {
  const TimePoint end = now() + duration;
  while (true) {
    const bool soon = !ready_.empty() || next_time() <= end || [this] {
      const std::lock_guard lock(posted_mutex_);
      return !posted_.empty();
    }();
    if (!soon || now() > end) break;
    step();
  }
  machine_.now_ = std::max(machine_.now_, end);
}

TimePoint SimRing::next_time() const {
  TimePoint next = TimePoint::max();
  if (!timers_.empty()) next = timers_.next();
  if (!operations_.empty()) next = std::min(next, operations_.begin()->first.first);
  return next;
}

bool SimRing::step() {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(posted_mutex_);
    work.swap(posted_);
  }
  for (auto& function : work) function();
  if (!work.empty()) return true;

  if (Completion* due = timers_.pop_due(now())) {
    deliver(*due, 0, 1);
    return true;
  }
  if (!operations_.empty() && operations_.begin()->first.first <= now()) {
    auto first = operations_.extract(operations_.begin());
    happen(first.mapped());
    return true;
  }
  if (!ready_.empty()) {
    if (++resumed_at_once_ > kResumedAtOnceMax) {
      machine_.now_ += kCreep;
      resumed_at_once_ = 0;
    }
    const auto handle = ready_.front();
    ready_.pop_front();
    handle.resume();
    return true;
  }
  const TimePoint next = next_time();
  if (next == TimePoint::max()) return false;
  machine_.now_ = std::max(machine_.now_, next);
  resumed_at_once_ = 0;
  return true;
}

void SimRing::deliver(Completion& completion, std::int32_t result, std::uint64_t what) {
  for (const std::uint64_t part :
       {static_cast<std::uint64_t>(now().time_since_epoch().count()),
        static_cast<std::uint64_t>(static_cast<std::uint32_t>(result)), what}) {
    trace_ = (trace_ ^ part) * 0x9e3779b97f4a7c15ULL;
    trace_ ^= trace_ >> 29;
  }
  completion.result = result;
  ready_.push_back(completion.waiter);
}

void SimRing::start_timer(TimePoint when, Completion& completion) {
  timers_.add(when, completion);
}

bool SimRing::cancel_timer(Completion& completion) {
  return timers_.remove(completion);
}

const SimFaults& SimRing::faults_of(const Operation& operation) const {
  static const SimFaults kNone;
  if (operation.open != nullptr) return machine_.faults(operation.open->path);
  return operation.path.empty() ? kNone : machine_.faults(operation.path);
}

void SimRing::add(Operation operation, const SimLatency& latency) {
  const Duration delay = draw(latency) + faults_of(operation).slow;
  operations_.emplace(When{now() + delay, next_order_++}, std::move(operation));
}

void SimRing::answer(Completion& completion, std::int32_t result) {
  Operation operation;
  operation.completion = &completion;
  operation.result = result;
  add(std::move(operation), SimLatency{});
}

// What waits for a hung device is looked at again.
void SimRing::faults_changed() {
  std::map<When, Operation> all;
  all.swap(operations_);
  for (auto& [when, operation] : all) {
    const bool again = std::exchange(operation.parked, false);
    const When key = again ? When{std::min(now(), when.first), when.second} : when;
    operations_.emplace(key, std::move(operation));
  }
}

void SimRing::happen(Operation& operation) {
  if (operation.kind == Operation::Kind::kLateWrite) {
    operation.node->file.write(operation.offset, operation.payload, random_);
    return;
  }
  const SimFaults& faults = faults_of(operation);
  if (!faults.gone && faults.hung_until > now()) {
    operation.parked = true;
    operations_.emplace(When{faults.hung_until, next_order_++}, std::move(operation));
    return;
  }
  Completion& completion = *operation.completion;
  if (operation.kind == Operation::Kind::kBlocking) {
    machine_.kv_busy_until_ = TimePoint::min();
    operation.function();
    const TimePoint busy_until = machine_.kv_busy_until_;
    operation.function = nullptr;
    operation.kind = Operation::Kind::kAnswer;
    operation.parked = busy_until > now();  // A device that recovers lets it go on.
    const TimePoint when = add_time(std::max(now(), busy_until), draw(options_.blocking));
    operations_.emplace(When{when, next_order_++}, std::move(operation));
    return;
  }
  const auto what = static_cast<std::uint64_t>(operation.kind) + 2;
  deliver(completion, perform(operation), what);
}

void SimRing::start_blocking(std::function<void()> function, Completion& completion) {
  Operation operation;
  operation.kind = Operation::Kind::kBlocking;
  operation.completion = &completion;
  operation.function = std::move(function);
  add(std::move(operation), options_.blocking);
}

void SimRing::start_accept(int, Completion& completion) {
  answer(completion, -EOPNOTSUPP);
}
void SimRing::start_receive(int, std::span<std::byte>, Completion& completion) {
  answer(completion, -EOPNOTSUPP);
}
void SimRing::start_send(int, std::span<const iovec>, Completion& completion) {
  answer(completion, -EOPNOTSUPP);
}

Result<std::unique_ptr<Kv>> SimRing::open_kv(const std::string& directory,
                                             const KvOptions& options) {
  return SimKv::open(machine_, directory, options);
}

// --- Folder operations ---

void SimRing::start_names(const std::string& path, Completion& completion) {
  Operation operation;
  operation.completion = &completion;
  operation.path = normal_path(path);
  add(std::move(operation), SimLatency{options_.names.min / 2, options_.names.max / 2});
}

template <class F>
Task<std::invoke_result_t<F>> SimRing::on_names(std::string path, F change) {
  co_await operation([this, &path](Completion& c) { start_names(path, c); });
  auto result = change();
  co_await operation([this, &path](Completion& c) { start_names(path, c); });
  co_return result;
}

Task<Result<File>> SimRing::open(std::string path, OpenOptions options) {
  auto change = [this, path, options] { return machine_.open(path, options); };
  auto id = co_await on_names(path, change);
  if (!id) co_return id.error();
  co_return File(this, *id);
}

Task<Result<void>> SimRing::make_directories(std::string path) {
  return on_names(path, [this, path] { return machine_.make_directories(path); });
}
Task<Result<void>> SimRing::rename(std::string from, std::string to) {
  return on_names(from, [this, from, to] { return machine_.rename(from, to); });
}
Task<Result<void>> SimRing::remove(std::string path) {
  return on_names(path, [this, path] { return machine_.remove(path); });
}
Task<Result<void>> SimRing::remove_tree(std::string path) {
  return on_names(path, [this, path] { return machine_.remove_tree(path); });
}
Task<Result<std::vector<std::string>>> SimRing::list(std::string directory) {
  return on_names(directory, [this, directory] { return machine_.list(directory); });
}
Task<Result<void>> SimRing::sync_directory_alone(std::string path) {
  return on_names(path, [this, path] { return machine_.sync_directory(path); });
}
Task<Result<void>> SimRing::sync_directory(std::string path) {
  return folder_syncs_.sync(std::move(path));
}
Task<Result<FileInfo>> SimRing::stat(std::string path) {
  return on_names(path, [this, path] { return machine_.stat(path); });
}
Task<Result<SpaceInfo>> SimRing::space(std::string path) {
  return on_names(path, [this, path] { return machine_.space(path); });
}

}  // namespace clouddisk
