// engine_host_faults.cc: faults that a user orders on a served disk: where they are put, and their
// end.
#include <algorithm>

#include "engine/base/log.h"
#include "tools/clouddiskd/engine_host.h"

namespace clouddisk {
namespace {

// What has plans, kept alive for a trip to the disk's ring and let go there.
struct Parts {
  std::shared_ptr<Disk> disk;
  std::shared_ptr<FaultyDevice> faulty;
  FaultPlan& plan_of(const FaultSpec& spec) const {
    return spec.at_client() ? faulty->plan() : disk->store().faults();
  }
};

}  // namespace

Task<Result<FaultStatus>> EngineHost::set_fault(FaultSpec spec) {
  const auto it = served_.find(spec.disk_id);
  if (it == served_.end() || it->second.stopping || stopping_) {
    co_return fail(Errc::kNotFound, "disk {} is not open", spec.disk_id);
  }
  std::size_t count = 0;
  for (const FaultRef& other : faults_) {
    if (other->spec.disk_id != spec.disk_id) continue;
    ++count;
    const bool both =
        spec.replica && other->spec.replica && spec.damages_media() && other->spec.damages_media();
    if (both && spec.replica != other->spec.replica) {
      co_return fail(Errc::kBusy,
                     "{} damages what is written to replica {}: with damage on another one a block "
                     "could be lost for good; clear it first",
                     other->id, *other->spec.replica + 1);
    }
  }
  if (count >= kFaultsOfDiskMax) {
    co_return fail(Errc::kLimit, "{} faults are set on {}, the limit: clear some first", count,
                   spec.disk_id);
  }
  const TimePoint until = spec.lifetime ? control_.now() + *spec.lifetime : TimePoint::max();
  const auto fault =
      std::make_shared<ActiveFault>(fmt::format("f-{}", ++last_fault_), std::move(spec), until);
  Parts parts{it->second.disk, it->second.faulty};
  faults_.push_back(fault);
  log(LogLevel::kWarning, "fault", "disk={} {} set: {}", fault->spec.disk_id, fault->id,
      describe(fault->spec));
  co_await parts.disk->ring().enter();
  parts.plan_of(fault->spec).add(fault);
  parts = {};
  co_await control_.enter();
  if (fault->spec.lifetime) {
    background_.add();
    spawn(end_fault_in_time(fault));
  }
  FaultStatus status;
  status.id = fault->id;
  status.spec = fault->spec;
  status.time_left = fault->spec.lifetime;
  co_return status;
}

std::vector<FaultStatus> EngineHost::faults() const {
  std::vector<FaultStatus> all;
  for (const FaultRef& fault : faults_) {
    FaultStatus status;
    status.id = fault->id;
    status.spec = fault->spec;
    status.hits = fault->hits.load(std::memory_order_relaxed);
    if (fault->spec.lifetime) {
      status.time_left = std::max(fault->until - control_.now(), Duration::zero());
    }
    all.push_back(std::move(status));
  }
  return all;
}

ReplicaFaults EngineHost::replica_faults(unsigned replica) const {
  ReplicaFaults counts{0, ended_fault_hits_[replica]};
  for (const FaultRef& fault : faults_) {
    if (fault->spec.replica != replica) continue;
    ++counts.set;
    counts.hits += fault->hits.load(std::memory_order_relaxed);
  }
  return counts;
}

Task<void> EngineHost::end_fault_in_time(FaultRef fault) {
  const auto is_set = [&] {
    return std::find(faults_.begin(), faults_.end(), fault) != faults_.end();
  };
  while (is_set() && !stopping_ && control_.now() < fault->until) {
    const bool woken = co_await stopped_.wait_until(fault->until);
    static_cast<void>(woken);
  }
  // When the host stops, the disk's end takes it along.
  if (!stopping_) co_await clear_fault(fault->id);
  background_.done();
}

Task<void> EngineHost::clear_fault(std::string fault_id) {
  const auto it = std::find_if(faults_.begin(), faults_.end(),
                               [&](const FaultRef& fault) { return fault->id == fault_id; });
  if (it == faults_.end()) co_return;
  const FaultRef fault = *it;
  const Served& served = served_.at(fault->spec.disk_id);  // A fault ends before its disk does.
  Parts parts{served.disk, served.faulty};
  faults_.erase(it);
  forget_fault(*fault, control_.now() < fault->until ? "cleared" : "over");
  stopped_.wake_all();
  co_await parts.disk->ring().enter();
  parts.plan_of(fault->spec).remove(fault_id);
  parts = {};
  co_await control_.enter();
}

void EngineHost::forget_fault(const ActiveFault& fault, std::string_view why) {
  const std::uint64_t hits = fault.hits.load(std::memory_order_relaxed);
  if (fault.spec.replica) ended_fault_hits_[*fault.spec.replica] += hits;
  log(LogLevel::kWarning, "fault", "disk={} {} {} after {} hits", fault.spec.disk_id, fault.id, why,
      hits);
}

// Nothing may hang on a disk that is about to close, neither its clients' requests nor an operation
// on a replica that was given up on.
Task<void> EngineHost::end_faults(std::string disk_id) {
  const auto of_disk = [&](const FaultRef& fault) { return fault->spec.disk_id == disk_id; };
  if (std::none_of(faults_.begin(), faults_.end(), of_disk)) co_return;
  for (const FaultRef& fault : faults_) {
    if (of_disk(fault)) forget_fault(*fault, "ended with the disk's service");
  }
  const Served& served = served_.at(disk_id);
  Parts parts{served.disk, served.faulty};
  std::erase_if(faults_, of_disk);
  stopped_.wake_all();
  co_await parts.disk->ring().enter();
  parts.faulty->plan().clear();
  parts.disk->store().faults().clear();
  parts = {};
  co_await control_.enter();
}

}  // namespace clouddisk
