#include "engine/catalog/places.h"

#include <algorithm>

namespace clouddisk {
namespace {

constexpr std::size_t kPlaceNameMax = 64;

Result<void> check_place_name(std::string_view name) {
  const bool fine = !name.empty() && name.size() <= kPlaceNameMax &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
                    });
  if (fine) return {};
  return fail(Errc::kInvalid, "'{}' is no name of a region or zone: 1 to {} letters, digits, - _ .",
              name, kPlaceNameMax);
}

std::string region_names(const Places& places) {
  std::string names;
  for (const Region& region : places.regions()) names += (names.empty() ? "" : ", ") + region.id;
  return names;
}

}  // namespace

Result<Places> Places::parse(const std::vector<std::string>& regions,
                             const std::vector<std::string>& zones) {
  std::vector<Region> made;
  for (const std::string& id : regions) {
    if (auto fine = check_place_name(id); !fine) return fine.error();
    const auto same = [&id](const Region& region) { return region.id == id; };
    if (std::any_of(made.begin(), made.end(), same)) {
      return fail(Errc::kInvalid, "region {} is given twice", id);
    }
    made.push_back({id, {}});
  }
  if (made.empty()) return fail(Errc::kInvalid, "at least one region is needed");
  for (const std::string& zone : zones) {
    if (auto fine = check_place_name(zone); !fine) return fine.error();
    Region* owner = made.size() == 1 ? &made.front() : nullptr;
    for (Region& region : made) {
      const auto& known = region.zones;
      if (std::find(known.begin(), known.end(), zone) != known.end()) {
        return fail(Errc::kInvalid, "zone {} is given twice", zone);
      }
      const bool longer = owner == nullptr || region.id.size() > owner->id.size();
      if (zone.starts_with(region.id + "-") && longer) owner = &region;
    }
    if (owner == nullptr) {
      return fail(Errc::kInvalid, "zone {} begins with the name of no region and a dash", zone);
    }
    owner->zones.push_back(zone);
  }
  for (Region& region : made) {
    if (region.zones.empty()) region.zones.push_back(region.id + "-a");
  }
  return Places(std::move(made));
}

const Region* Places::find(std::string_view region) const {
  for (const Region& one : regions_) {
    if (one.id == region) return &one;
  }
  return nullptr;
}

const Region* Places::find_by_zone(std::string_view zone) const {
  for (const Region& one : regions_) {
    if (std::find(one.zones.begin(), one.zones.end(), zone) != one.zones.end()) return &one;
  }
  return nullptr;
}

Verdict location_must_exist(const Places& places, Location& at) {
  if (!at.region.empty() && places.find(at.region) == nullptr) {
    return Refusal{404, "InvalidRegionId.NotFound",
                   fmt::format("There is no region '{}' here; there are {}.", at.region,
                               region_names(places))};
  }
  const Region* region = at.region.empty() ? &places.home() : places.find(at.region);
  if (at.zone.empty()) {
    at = {region->id, region->zones.front()};
    return std::nullopt;
  }
  const Region* owner = places.find_by_zone(at.zone);
  if (owner == nullptr || (!at.region.empty() && owner != region)) {
    return Refusal{404, "InvalidZoneId.NotFound",
                   fmt::format("There is no zone '{}' in region {}.", at.zone,
                               at.region.empty() ? region_names(places) : at.region)};
  }
  at.region = owner->id;
  return std::nullopt;
}

}  // namespace clouddisk
