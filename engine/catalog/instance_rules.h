// instance_rules.h: the cloud's rules for instances. Each is one named pure
// function with the cloud's code and HTTP status.
#pragma once

#include <span>
#include <string_view>

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"

namespace clouddisk {

inline constexpr std::uint64_t kInstancesPerRequestMax = 100;

// IncorrectInstanceStatus (403).
Verdict instance_must_be_stopped_to_start(const InstanceRecord& instance);
Verdict instance_must_be_running_to_stop(const InstanceRecord& instance);
Verdict instance_must_be_running_to_reboot(const InstanceRecord& instance);
// Running is fine with `force`.
Verdict instance_must_be_stopped_to_delete(const InstanceRecord& instance, bool force);
// One may still be on its way there, when what it waits for has failed: IncorrectDiskStatus (403).
Verdict attached_disks_must_be_in_use(std::span<const DiskRecord* const> attached);
// Of the system disk, for another: IncorrectInstanceStatus (403).
Verdict instance_must_be_stopped_to_replace(const InstanceRecord& instance);
// InvalidOperation.DeletionProtection (403).
Verdict instance_must_not_be_protected(const InstanceRecord& instance);
// OperationDenied (403): the daemon's own host stays.
Verdict instance_must_not_be_the_host(const InstanceRecord& instance);

// PostPaid or PrePaid: InvalidInstanceChargeType.NotFound (404).
Verdict charge_type_must_be_known(std::string_view charge_type);
inline constexpr std::uint64_t kInstanceIopsMax = 100'000'000;
inline constexpr std::uint64_t kInstanceThroughputMax = 1'000'000;  // MB/s
// Ours. InvalidParameter (400).
Verdict instance_limits_must_be_possible(std::uint64_t iops, std::uint64_t throughput);

// Of those that one request names: none is MissingParameter, more than 100 are InvalidParameter
// (400).
Verdict instance_number_must_fit(std::size_t instances);
// InvalidParameter.Amount (400).
Verdict amount_must_be_possible(std::uint64_t amount, std::uint64_t min_amount);

}  // namespace clouddisk
