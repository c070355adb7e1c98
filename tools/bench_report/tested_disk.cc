#include "tools/bench_report/tested_disk.h"

#include <fmt/format.h>

#include <cmath>

#include "engine/base/units.h"

namespace clouddisk::bench {
namespace {

std::string grouped(std::uint64_t value) {
  if (value < 1'000) return fmt::format("{}", value);
  return fmt::format("{},{:03}", grouped(value / 1'000), value % 1'000);
}

// What a request of this size counts in bytes, when that is not its size.
std::string charge_text(SizeCost size_cost, std::uint64_t block_bytes) {
  const std::uint64_t charged = cost_of(size_cost, block_bytes).bytes;
  if (charged == block_bytes) return " / " + block_text(block_bytes);
  return fmt::format(" / {:.2f} KiB, which {} count on this category",
                     static_cast<double>(charged) / static_cast<double>(1_KiB),
                     block_text(block_bytes));
}

std::string iops_formula(const CategoryRow& row, const TestedDisk& disk, const DiskLimits& limits) {
  std::string text = row.iops.text();
  if (disk.provisioned_iops != 0) text += " + " + grouped(disk.provisioned_iops) + " provisioned";
  return fmt::format("{} IOPS at C = {} GiB: {}", text, grouped(disk.size_gib),
                     grouped(limits.iops));
}

std::string throughput_formula(const CategoryRow& row, const TestedDisk& disk,
                               const DiskLimits& limits, std::uint64_t block_bytes) {
  std::string text = row.throughput.text();
  if (disk.provisioned_iops != 0) {
    text += fmt::format(" + {} provisioned IOPS x 16 KiB", grouped(disk.provisioned_iops));
  }
  return fmt::format("{} MB/s at C = {} GiB: {:g}{}", text, grouped(disk.size_gib),
                     megabytes(static_cast<double>(limits.bytes_per_second)),
                     charge_text(limits.size_cost, block_bytes));
}

}  // namespace

std::string TestedDisk::title() const {
  const CategoryRow* row = row_of(*this);
  return fmt::format("{}, {} GiB", row != nullptr ? row->title : category, grouped(size_gib));
}

const CategoryRow* row_of(const TestedDisk& disk) {
  const CategoryRow* row = find_category(disk.profile, disk.category, disk.level);
  if (row != nullptr && row->creatable()) return row;
  const Profile other = disk.profile == Profile::k2021 ? Profile::k2024 : Profile::k2021;
  row = find_category(other, disk.category, disk.level);
  return row != nullptr && row->creatable() ? row : nullptr;
}

std::string_view name(Limit limit) {
  switch (limit) {
    case Limit::kIops:
      return "IOPS";
    case Limit::kThroughput:
      return "throughput";
    case Limit::kInstanceIops:
      return "instance IOPS";
    case Limit::kInstanceThroughput:
      return "instance throughput";
    case Limit::kDevice:
      return "device";
  }
  return "";
}

Result<Target> target_of(const TestedDisk& disk, std::uint64_t block_bytes) {
  const CategoryRow* row = row_of(disk);
  if (row == nullptr) {
    return fail(Errc::kNotFound, "no figures for category '{}' with level '{}'", disk.category,
                disk.level);
  }
  const DiskLimits limits = limits_for(*row, disk.size_gib, disk.provisioned_iops);
  const double by_iops = static_cast<double>(limits.iops);
  const double by_bytes = static_cast<double>(limits.bytes_per_second) /
                          static_cast<double>(cost_of(limits.size_cost, block_bytes).bytes);
  Target target{by_iops, block_bytes, Limit::kIops, iops_formula(*row, disk, limits)};
  if (by_bytes < by_iops) {
    target.iops = by_bytes;
    target.limit = Limit::kThroughput;
    target.formula = throughput_formula(*row, disk, limits, block_bytes);
  }
  const auto lower = [&](double iops, Limit limit, std::string formula) {
    if (iops >= target.iops) return;
    target.iops = iops;
    target.limit = limit;
    target.formula = std::move(formula);
  };
  if (disk.instance.iops != 0) {
    lower(static_cast<double>(disk.instance.iops), Limit::kInstanceIops,
          fmt::format("{} IOPS of the instance, below the disk's {}", grouped(disk.instance.iops),
                      figure_text(target.iops)));
  }
  if (disk.instance.bytes_per_second != 0) {
    const double bytes = static_cast<double>(disk.instance.bytes_per_second);
    lower(bytes / static_cast<double>(block_bytes), Limit::kInstanceThroughput,
          fmt::format("{:g} MB/s of the instance / {}", megabytes(bytes), block_text(block_bytes)));
  }
  return target;
}

double megabytes(double bytes) {
  return bytes / static_cast<double>(1_MiB);
}

std::string figure_text(double value) {
  if (!std::isfinite(value) || value < 0) return "-";
  if (value < 100) return fmt::format("{:.1f}", value);
  return grouped(static_cast<std::uint64_t>(std::llround(value)));
}

std::string block_text(std::uint64_t bytes) {
  if (bytes % 1_MiB == 0) return fmt::format("{} MiB", bytes / 1_MiB);
  if (bytes % 1_KiB == 0) return fmt::format("{} KiB", bytes / 1_KiB);
  return fmt::format("{} B", bytes);
}

}  // namespace clouddisk::bench
