// The catalog outlives the options: what it has may be in a region or a zone that they don't name.
#include <map>
#include <set>
#include <utility>

#include "engine/base/log.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

struct Found {
  std::map<std::string, std::size_t> counts;  // by what they are, in the singular
  std::set<std::string> zones;
  bool host = false;  // the daemon's own instance is there
};

std::string counts_text(const Found& found) {
  std::string text;
  std::size_t all = 0;
  for (const auto& [what, count] : found.counts) {
    const bool policies = what == "policy" && count != 1;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count,
                        policies ? "policies" : what + (count == 1 ? "" : "s"));
    if (found.host && what == "instance") {
      text += fmt::format(" ({}{})", kLocalInstanceId, count == 1 ? "" : " among them");
    }
    all += count;
  }
  return fmt::format("{} {}", text, all == 1 ? "is" : "are");
}

// What to start with for these to be named too: what this start has, and what is missing. Empty
// where no names do that: a zone that was given when there was one region may fit none of several.
std::string advice(const Places& places, const std::string& region,
                   const std::set<std::string>& zones) {
  std::vector<std::string> regions, all_zones(zones.begin(), zones.end());
  for (const Region& known : places.regions()) {
    regions.push_back(known.id);
    all_zones.insert(all_zones.end(), known.zones.begin(), known.zones.end());
  }
  if (places.find(region) == nullptr) regions.push_back(region);
  auto together = Places::parse(regions, all_zones);
  if (!together) return {};
  for (const std::string& zone : zones) {
    const Region* owner = together->find_by_zone(zone);
    if (owner == nullptr || owner->id != region) return {};
  }
  std::string options = ". Start with";
  for (const Region& one : together->regions()) {
    options += " --region " + one.id;
    for (const std::string& zone : one.zones) options += " --zone " + zone;
  }
  return options;
}

}  // namespace

void Control::Impl::tell_of_unknown_places() const {
  const Places& places = options.places;
  std::map<std::string, Found> regions;
  std::map<std::pair<std::string, std::string>, Found> zones;  // of regions that are known
  const auto count = [&](const char* what, const std::string& region, const std::string& zone,
                         bool host) {
    const Region* known = places.find(region);
    if (known != nullptr && (zone.empty() || places.find_by_zone(zone) == known)) return;
    Found& found = known == nullptr ? regions[region] : zones[{region, zone}];
    ++found.counts[what];
    if (!zone.empty()) found.zones.insert(zone);
    found.host |= host;
  };
  for (const auto& [id, disk] : catalog->disks()) count("disk", disk.region, disk.zone, false);
  for (const auto& [id, instance] : catalog->instances()) {
    count("instance", instance.region, instance.zone, id == kLocalInstanceId);
  }
  for (const auto& [id, snapshot] : catalog->snapshots()) {
    if (!snapshot.hidden) count("snapshot", snapshot.region, {}, false);
  }
  for (const auto& [id, group] : catalog->groups()) {
    count("snapshot group", group.region, {}, false);
  }
  for (const auto& [id, image] : catalog->images()) count("image", image.region, {}, false);
  for (const auto& [id, policy] : catalog->policies()) count("policy", policy.region, {}, false);
  for (const auto& [region, found] : regions) {
    log(LogLevel::kWarning, "control",
        "{} in region {}, which this start does not name: found by id and where no RegionId is "
        "given, refused with RegionId={}; what is new is made in {}, apart from them{}",
        counts_text(found), region, region, places.home().zones.front(),
        advice(places, region, found.zones));
  }
  for (const auto& [where, found] : zones) {
    log(LogLevel::kWarning, "control",
        "{} in zone {} of region {}, which this start does not name: found by id and where no "
        "ZoneId is given, refused with ZoneId={}; what is new is made in {}, and a disk is "
        "attached to an instance of its own zone only{}",
        counts_text(found), where.second, where.first, where.second,
        places.find(where.first)->zones.front(), advice(places, where.first, {where.second}));
  }
}

}  // namespace clouddisk
