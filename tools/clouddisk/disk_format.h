// disk_format.h: how disks are shown, and where they are reached. Pure.
#pragma once

#include <string>
#include <vector>

#include "tools/clouddisk/api_client.h"

namespace clouddisk::cli {

// A table of the entries of DescribeDisks.
std::string disks_table(const Json& disks);
// Everything about one disk, a line each.
std::string disk_details(const Json& disk, const std::vector<ApiClient::Export>& exports,
                         const std::string& mounted_at);
std::string instances_table(const Json& instances);

}  // namespace clouddisk::cli
