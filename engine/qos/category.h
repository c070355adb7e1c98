// category.h: the table of disk categories and performance levels: capacity ranges, formulas for
// IOPS and throughput, nominal latency, where a disk may be used, and who says so. Plain data and
// pure functions.
//
// Profiles: "2021" (the users' manual, default) and "2024" (newer ranges). Every figure that is
// shown can name the profile and the formula that gave it.
// Units: capacity in GiB; 1 MB/s is 2^20 bytes a second (the source defines 1 KB as 1,024 bytes).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/qos/limits.h"

namespace clouddisk {

enum class Profile : std::uint8_t { k2021, k2024 };
std::string_view name(Profile profile);  // "2021", "2024"
// kInvalid names what would be accepted.
Result<Profile> parse_profile(std::string_view text);

// max(floor, min(base + slope * C, cap)) for a capacity of C GiB. The slope is in hundredths, so
// that every figure of the table is exact. cap 0: no cap; slope 0: a constant.
struct LinearFormula {
  std::uint64_t base = 0;
  std::uint64_t slope_hundredths = 0;
  std::uint64_t cap = 0;
  std::uint64_t floor = 0;

  std::uint64_t hundredths_at(std::uint64_t capacity_gib) const;  // 100 times the value
  std::string text() const;                                       // "min(1,800 + 50 C, 50,000)"
};

struct CapacityRange {
  std::uint64_t min_gib = 0;
  std::uint64_t max_gib = 0;
  bool contains(std::uint64_t gib) const { return min_gib <= gib && gib <= max_gib; }
};

// Where a row's figures come from: a formula that a source prints, or figures that we had to name.
enum class FigureOrigin : std::uint8_t { kFormula, kNominal };

struct CategoryRow {
  Profile profile;
  std::string_view category;  // the API's value: "cloud_essd"
  std::string_view level;     // "PL1"; empty where the category has none
  std::string_view title;     // "ESSD PL1"
  // Empty when a disk of this row can be made; else why it can't.
  std::string_view unavailable;
  CapacityRange capacity;
  bool for_system = false;
  bool for_data = true;
  LinearFormula iops;        // operations a second
  LinearFormula throughput;  // MB a second
  FigureOrigin origin = FigureOrigin::kFormula;
  // One-way 4 KiB random write; 0: nobody says.
  std::uint32_t latency_min_us = 0;
  std::uint32_t latency_max_us = 0;
  std::string_view source;
  SizeCost size_cost = SizeCost::kPlain;

  bool creatable() const { return unavailable.empty(); }
  // Capacity of a system disk of this row; nothing when it can't be one.
  std::optional<CapacityRange> system_capacity() const;
};

inline constexpr std::uint64_t kSystemDiskMinGib = 20;
inline constexpr std::uint64_t kSystemDiskMaxGib = 500;
inline constexpr std::uint64_t kSystemDiskDefaultGib = 40;
inline constexpr std::string_view kDefaultCategory = "cloud";
inline constexpr std::string_view kDefaultLevel = "PL1";

// Rows in the order in which a table shows them, those that can't be created last.
std::vector<const CategoryRow*> category_table(Profile profile);

// Null when the profile has no such row. `level` is empty for a category without levels.
const CategoryRow* find_category(Profile profile, std::string_view category,
                                 std::string_view level);
// Whether the category is named in the profile at all, and whether it has performance levels.
bool category_known(Profile profile, std::string_view category);
bool category_has_levels(std::string_view category);
bool is_level_name(std::string_view level);  // PL0, PL1, PL2, PL3

// What a disk of this row and size may do in a second. `provisioned_iops` counts for cloud_auto
// only: each brings 16 KiB a second of throughput.
DiskLimits limits_for(const CategoryRow& row, std::uint64_t size_gib,
                      std::uint64_t provisioned_iops = 0);
// kNotFound: no such row; kUnsupported: it has no figures.
Result<DiskLimits> limits_for(std::string_view category, std::string_view level,
                              std::uint64_t size_gib, Profile profile);

// Provisioned IOPS that a cloud_auto disk of this size may have beyond its base.
std::uint64_t provisioned_iops_max(const CategoryRow& row, std::uint64_t size_gib);

}  // namespace clouddisk
