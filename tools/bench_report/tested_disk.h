// tested_disk.h: what a disk is measured against: its category, level and size, the limits that
// follow from them, and the target of a request size with the formula that gives it. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/result.h"
#include "engine/qos/category.h"
#include "engine/qos/limits.h"

namespace clouddisk::bench {

struct TestedDisk {
  std::string id;  // empty: not made yet
  std::string category;
  std::string level;  // empty where the category has none
  std::uint64_t size_gib = 0;
  std::uint64_t provisioned_iops = 0;  // of cloud_auto
  Profile profile = Profile::k2021;
  DiskLimits instance;  // of all disks of its instance together; zeros: none

  // "ESSD PL1, 40 GiB".
  std::string title() const;
};

// A disk keeps its row when the daemon is started with a profile that lacks it. Null: neither has
// it.
const CategoryRow* row_of(const TestedDisk& disk);

// Which limit a disk meets first.
enum class Limit { kIops, kThroughput, kInstanceIops, kInstanceThroughput, kDevice };
std::string_view name(Limit limit);  // "IOPS", "throughput", "instance IOPS", …, "device"

struct Target {
  double iops = 0;  // requests a second, reads and writes together
  std::uint64_t block_bytes = 0;
  Limit limit = Limit::kIops;
  std::string formula;  // "min(1,800 + 50 C, 50,000) IOPS at C = 40 GiB: 3,800"

  double bytes_per_second() const { return iops * static_cast<double>(block_bytes); }
};

// kNotFound: no profile has figures for such a disk.
Result<Target> target_of(const TestedDisk& disk, std::uint64_t block_bytes);

// 1 MB is 2^20 bytes here.
double megabytes(double bytes);
// "12,345" of a figure, rounded; with one decimal below 100.
std::string figure_text(double value);
// "4 KiB", "1 MiB".
std::string block_text(std::uint64_t bytes);

}  // namespace clouddisk::bench
