#include "engine/catalog/instance_rules.h"

#include <fmt/format.h>

#include "engine/catalog/ids.h"

namespace clouddisk {
namespace {

Refusal wrong_status(const InstanceRecord& instance, std::string_view wanted) {
  return {403, "IncorrectInstanceStatus",
          fmt::format("Instance {} is {}, not {}.", instance.id, name(instance.status), wanted)};
}

}  // namespace

Verdict instance_must_be_stopped_to_start(const InstanceRecord& instance) {
  if (instance.status == InstanceStatus::kStopped) return std::nullopt;
  return wrong_status(instance, "Stopped");
}

Verdict instance_must_be_running_to_stop(const InstanceRecord& instance) {
  if (instance.status == InstanceStatus::kRunning) return std::nullopt;
  return wrong_status(instance, "Running");
}

Verdict instance_must_be_running_to_reboot(const InstanceRecord& instance) {
  if (instance.status == InstanceStatus::kRunning) return std::nullopt;
  return wrong_status(instance, "Running");
}

Verdict instance_must_be_stopped_to_delete(const InstanceRecord& instance, bool force) {
  if (instance.status == InstanceStatus::kStopped) return std::nullopt;
  if (force && instance.status == InstanceStatus::kRunning) return std::nullopt;
  return wrong_status(instance, "Stopped: stop it, or use Force=true");
}

Verdict attached_disks_must_be_in_use(std::span<const DiskRecord* const> attached) {
  for (const DiskRecord* disk : attached) {
    // One that was given up is the instance's no more.
    if (disk->status == DiskStatus::kInUse || disk->status == DiskStatus::kDeleting) continue;
    return Refusal{403, "IncorrectDiskStatus",
                   fmt::format("Disk {} is {}. It is tried again by itself: wait until it is "
                               "In_use; the daemon's log says what it waits for.",
                               disk->id, name(disk->status))};
  }
  return std::nullopt;
}

Verdict instance_must_be_stopped_to_replace(const InstanceRecord& instance) {
  if (instance.status == InstanceStatus::kStopped) return std::nullopt;
  return wrong_status(instance, "Stopped: its system disk is in use");
}

Verdict instance_must_not_be_protected(const InstanceRecord& instance) {
  if (!instance.deletion_protection) return std::nullopt;
  return Refusal{403, "InvalidOperation.DeletionProtection",
                 fmt::format("Instance {} is protected against deletion.", instance.id)};
}

Verdict instance_must_not_be_the_host(const InstanceRecord& instance) {
  if (instance.id != kLocalInstanceId) return std::nullopt;
  return Refusal{403, "OperationDenied",
                 fmt::format("{} is the daemon's own host and can't be released.", instance.id)};
}

Verdict charge_type_must_be_known(std::string_view charge_type) {
  if (charge_type == "PostPaid" || charge_type == "PrePaid") return std::nullopt;
  return Refusal{404, "InvalidInstanceChargeType.NotFound",
                 fmt::format("'{}' is no charge type: PostPaid or PrePaid.", charge_type)};
}

Verdict instance_limits_must_be_possible(std::uint64_t iops, std::uint64_t throughput) {
  if (iops <= kInstanceIopsMax && throughput <= kInstanceThroughputMax) return std::nullopt;
  return Refusal{400, "InvalidParameter",
                 fmt::format("IopsLimit is at most {}, ThroughputLimit {} MB/s; 0 is no limit.",
                             kInstanceIopsMax, kInstanceThroughputMax)};
}

Verdict instance_number_must_fit(std::size_t instances) {
  if (instances == 0) {
    return Refusal{400, "MissingParameter", "Give InstanceId.1 and so on."};
  }
  if (instances <= kInstancesPerRequestMax) return std::nullopt;
  return Refusal{400, "InvalidParameter",
                 fmt::format("{} instances, {} at the most.", instances, kInstancesPerRequestMax)};
}

Verdict amount_must_be_possible(std::uint64_t amount, std::uint64_t min_amount) {
  if (amount >= 1 && amount <= kInstancesPerRequestMax && min_amount >= 1 && min_amount <= amount) {
    return std::nullopt;
  }
  return Refusal{400, "InvalidParameter.Amount",
                 fmt::format("Amount {} and MinAmount {}: 1 to {}, and MinAmount not above Amount.",
                             amount, min_amount, kInstancesPerRequestMax)};
}

}  // namespace clouddisk
