// mounted_disks.h: refusals of what would take an instance's disks away from file systems that
// `clouddisk disk mount` mounted on this host.
#pragma once

#include <string>

#include "tools/clouddisk/api_client.h"

namespace clouddisk::cli {

// Before an instance is stopped or deleted. An instance that is not known has no disks.
Verdict instance_must_not_be_mounted(const ApiClient& api, const std::string& root,
                                     const std::string& instance);

// Before an instance is stopped and started again at once: a mount with the relay waits.
Verdict instance_mounts_must_ride_out(const ApiClient& api, const std::string& root,
                                      const std::string& instance);

}  // namespace clouddisk::cli
