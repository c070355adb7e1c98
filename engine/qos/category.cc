#include "engine/qos/category.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "engine/base/units.h"

namespace clouddisk {
namespace {

constexpr std::string_view kD21 = "EBS performance (2021-04-28) and ESSDs (2021-04-29)";
constexpr std::string_view kE24 = "ESSDs page (2024-01-18)";
constexpr std::string_view kAutoOld = "ESSD AutoPL page, older edition";
constexpr std::string_view kAutoNew = "ESSD AutoPL page, newer edition (to 2026-01)";
constexpr std::string_view kDriver = "range: cloud CSI driver (2026); formulas: EBS performance";
constexpr std::string_view kBasic =
    "EBS performance (2021): no formula, several hundred IOPS and 30-40 MB/s; figures nominal";
constexpr std::string_view kEntry = "range: cloud CSI driver (2026); formulas not checked: nominal";
constexpr std::string_view kNone = "no source gives figures";

constexpr std::string_view kSingleCopy =
    "a local disk keeps a single copy; local categories are to come";
constexpr std::string_view kWithdrawn = "withdrawn from sale; profile 2021 has it";
constexpr std::string_view kNotIn2021 = "not part of profile 2021; profile 2024 names it";
constexpr std::string_view kNoFigures = "no source gives its ranges and formulas";

constexpr Profile k21 = Profile::k2021;
constexpr Profile k24 = Profile::k2024;
constexpr auto kNominal = FigureOrigin::kNominal;
constexpr auto kFormula = FigureOrigin::kFormula;

constexpr LinearFormula kIopsPl0{1'800, 12'00, 10'000, 0};
constexpr LinearFormula kIopsPl1{1'800, 50'00, 50'000, 0};
constexpr LinearFormula kIopsPl2{1'800, 50'00, 100'000, 0};
constexpr LinearFormula kIopsPl3{1'800, 50'00, 1'000'000, 0};
constexpr LinearFormula kIopsAuto{1'800, 50'00, 50'000, 3'000};
constexpr LinearFormula kIopsEntry{1'800, 8'00, 6'000, 0};
constexpr LinearFormula kIopsSsd{1'800, 30'00, 25'000, 0};
constexpr LinearFormula kIopsUltra{1'800, 8'00, 5'000, 0};
constexpr LinearFormula kIopsBasic{400, 0, 0, 0};

constexpr LinearFormula kMbPl0{100, 25, 180, 0};
constexpr LinearFormula kMbPl1{120, 50, 350, 0};
constexpr LinearFormula kMbPl2{120, 50, 750, 0};
constexpr LinearFormula kMbPl3{120, 50, 4'000, 0};
constexpr LinearFormula kMbAuto{120, 50, 350, 125};
constexpr LinearFormula kMbEntry{100, 15, 150, 0};
constexpr LinearFormula kMbSsd{120, 50, 300, 0};
constexpr LinearFormula kMbUltra{100, 15, 140, 0};
constexpr LinearFormula kMbBasic{40, 0, 0, 0};

constexpr CategoryRow to_come(Profile profile, std::string_view category, std::string_view title,
                              std::string_view why) {
  return {profile, category, "",       title, why, {},    false,           true,
          {},      {},       kNominal, 0,     0,   kNone, SizeCost::kPlain};
}

// clang-format off
// profile, category, level, title, unavailable, capacity, system, data,
// IOPS, MB/s, origin, latency from and to in microseconds, source
constexpr std::array kTable = {
    CategoryRow{k21, "cloud_essd", "PL0", "ESSD PL0", "", {40, 32'768}, true, true,
                kIopsPl0, kMbPl0, kFormula, 300, 500, kD21},
    CategoryRow{k21, "cloud_essd", "PL1", "ESSD PL1", "", {20, 32'768}, true, true,
                kIopsPl1, kMbPl1, kFormula, 200, 200, kD21},
    CategoryRow{k21, "cloud_essd", "PL2", "ESSD PL2", "", {461, 32'768}, true, true,
                kIopsPl2, kMbPl2, kFormula, 200, 200, kD21},
    CategoryRow{k21, "cloud_essd", "PL3", "ESSD PL3", "", {1'261, 32'768}, true, true,
                kIopsPl3, kMbPl3, kFormula, 200, 200, kD21},
    CategoryRow{k21, "cloud_auto", "", "ESSD AutoPL", "", {40, 32'768}, true, true,
                kIopsPl1, kMbPl1, kFormula, 200, 200, kAutoOld},
    CategoryRow{k21, "cloud_ssd", "", "Standard SSD", "", {20, 32'768}, true, true,
                kIopsSsd, kMbSsd, kFormula, 500, 2'000, kD21, SizeCost::kStandardSsd},
    CategoryRow{k21, "cloud_efficiency", "", "Ultra disk", "", {20, 32'768}, true, true,
                kIopsUltra, kMbUltra, kFormula, 1'000, 3'000, kD21},
    CategoryRow{k21, "cloud", "", "Basic disk", "", {5, 2'000}, true, true,
                kIopsBasic, kMbBasic, kNominal, 5'000, 10'000, kBasic},
    to_come(k21, "cloud_essd_entry", "ESSD Entry", kNotIn2021),
    to_come(k21, "cloud_regional_disk_auto", "Regional ESSD", kNotIn2021),
    to_come(k21, "local_ssd_pro", "Local NVMe SSD", kSingleCopy),
    to_come(k21, "local_hdd_pro", "Local SATA HDD", kSingleCopy),

    CategoryRow{k24, "cloud_essd", "PL0", "ESSD PL0", "", {1, 65'536}, true, true,
                kIopsPl0, kMbPl0, kFormula, 300, 500, kE24},
    CategoryRow{k24, "cloud_essd", "PL1", "ESSD PL1", "", {20, 65'536}, true, true,
                kIopsPl1, kMbPl1, kFormula, 200, 200, kE24},
    CategoryRow{k24, "cloud_essd", "PL2", "ESSD PL2", "", {461, 65'536}, true, true,
                kIopsPl2, kMbPl2, kFormula, 200, 200, kE24},
    CategoryRow{k24, "cloud_essd", "PL3", "ESSD PL3", "", {1'261, 65'536}, true, true,
                kIopsPl3, kMbPl3, kFormula, 200, 200, kE24},
    CategoryRow{k24, "cloud_auto", "", "ESSD AutoPL", "", {1, 65'536}, true, true,
                kIopsAuto, kMbAuto, kFormula, 200, 200, kAutoNew},
    CategoryRow{k24, "cloud_essd_entry", "", "ESSD Entry", "", {10, 65'536}, true, true,
                kIopsEntry, kMbEntry, kNominal, 1'000, 3'000, kEntry},
    CategoryRow{k24, "cloud_ssd", "", "Standard SSD", "", {20, 65'536}, true, true,
                kIopsSsd, kMbSsd, kFormula, 500, 2'000, kDriver, SizeCost::kStandardSsd},
    CategoryRow{k24, "cloud_efficiency", "", "Ultra disk", "", {20, 65'536}, true, true,
                kIopsUltra, kMbUltra, kFormula, 1'000, 3'000, kDriver},
    to_come(k24, "cloud", "Basic disk", kWithdrawn),
    to_come(k24, "cloud_regional_disk_auto", "Regional ESSD", kNoFigures),
    to_come(k24, "local_ssd_pro", "Local NVMe SSD", kSingleCopy),
    to_come(k24, "local_hdd_pro", "Local SATA HDD", kSingleCopy),
};
// clang-format on

constexpr std::uint64_t kProvisionedMax = 50'000;
constexpr std::uint64_t kIopsPerGibMax = 1'000;
constexpr std::uint64_t kProvisionedBytes = 16_KiB;

// "12,345": as the sources print their figures.
std::string grouped(std::uint64_t value) {
  if (value < 1'000) return fmt::format("{}", value);
  return fmt::format("{},{:03}", grouped(value / 1'000), value % 1'000);
}

std::string slope_text(std::uint64_t hundredths) {
  if (hundredths % 100 == 0) return grouped(hundredths / 100);
  if (hundredths % 10 == 0) return fmt::format("{}.{}", hundredths / 100, hundredths % 100 / 10);
  return fmt::format("{}.{:02}", hundredths / 100, hundredths % 100);
}

}  // namespace

std::string_view name(Profile profile) {
  return profile == Profile::k2021 ? "2021" : "2024";
}

Result<Profile> parse_profile(std::string_view text) {
  if (text == "2021") return Profile::k2021;
  if (text == "2024") return Profile::k2024;
  return fail(Errc::kInvalid, "profile '{}' is neither 2021 nor 2024", text);
}

std::uint64_t LinearFormula::hundredths_at(std::uint64_t capacity_gib) const {
  std::uint64_t value = base * 100 + slope_hundredths * capacity_gib;
  if (cap != 0) value = std::min(value, cap * 100);
  return std::max(value, floor * 100);
}

std::string LinearFormula::text() const {
  std::string formula = grouped(base);
  if (slope_hundredths != 0) formula += fmt::format(" + {} C", slope_text(slope_hundredths));
  if (cap != 0) formula = fmt::format("min({}, {})", formula, grouped(cap));
  if (floor != 0) formula = fmt::format("max({}, {})", formula, grouped(floor));
  return formula;
}

std::optional<CapacityRange> CategoryRow::system_capacity() const {
  if (!for_system || !creatable()) return std::nullopt;
  const CapacityRange range{std::max(capacity.min_gib, kSystemDiskMinGib),
                            std::min(capacity.max_gib, kSystemDiskMaxGib)};
  if (range.min_gib > range.max_gib) return std::nullopt;
  return range;
}

std::vector<const CategoryRow*> category_table(Profile profile) {
  std::vector<const CategoryRow*> rows;
  for (const CategoryRow& row : kTable) {
    if (row.profile == profile) rows.push_back(&row);
  }
  return rows;
}

const CategoryRow* find_category(Profile profile, std::string_view category,
                                 std::string_view level) {
  for (const CategoryRow& row : kTable) {
    if (row.profile == profile && row.category == category && row.level == level) return &row;
  }
  return nullptr;
}

bool category_known(Profile profile, std::string_view category) {
  return std::any_of(kTable.begin(), kTable.end(), [&](const CategoryRow& row) {
    return row.profile == profile && row.category == category;
  });
}

bool category_has_levels(std::string_view category) {
  return std::any_of(kTable.begin(), kTable.end(), [&](const CategoryRow& row) {
    return row.category == category && !row.level.empty();
  });
}

bool is_level_name(std::string_view level) {
  return level == "PL0" || level == "PL1" || level == "PL2" || level == "PL3";
}

DiskLimits limits_for(const CategoryRow& row, std::uint64_t size_gib,
                      std::uint64_t provisioned_iops) {
  DiskLimits limits;
  limits.iops = row.iops.hundredths_at(size_gib) / 100 + provisioned_iops;
  limits.bytes_per_second =
      row.throughput.hundredths_at(size_gib) * 1_MiB / 100 + provisioned_iops * kProvisionedBytes;
  limits.size_cost = row.size_cost;
  return limits;
}

Result<DiskLimits> limits_for(std::string_view category, std::string_view level,
                              std::uint64_t size_gib, Profile profile) {
  const CategoryRow* row = find_category(profile, category, level);
  if (row == nullptr) {
    return fail(Errc::kNotFound, "profile {} has no category '{}' with level '{}'", name(profile),
                category, level);
  }
  if (!row->creatable()) {
    return fail(Errc::kUnsupported, "category {}: {}", category, row->unavailable);
  }
  return limits_for(*row, size_gib);
}

std::uint64_t provisioned_iops_max(const CategoryRow& row, std::uint64_t size_gib) {
  if (row.category != "cloud_auto") return 0;
  const std::uint64_t base = row.iops.hundredths_at(size_gib) / 100;
  const std::uint64_t dense = kIopsPerGibMax * size_gib;
  return dense <= base ? 0 : std::min(dense - base, kProvisionedMax);
}

}  // namespace clouddisk
