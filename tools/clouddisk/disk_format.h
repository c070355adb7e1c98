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

// "unix:/run/nbd.sock" and "d-1" -> "nbd+unix:///d-1?socket=/run/nbd.sock". Empty for an address
// that can't be reached over NBD.
std::string nbd_uri(const std::string& address, const std::string& export_name);
}  // namespace clouddisk::cli
