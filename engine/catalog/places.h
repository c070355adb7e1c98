// places.h: the regions and zones that a daemon stands for. What is made says where it is; the
// bytes of all are in the same replicas.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/catalog/refusal.h"

namespace clouddisk {

struct Region {
  std::string id;                  // "cn-hangzhou"
  std::vector<std::string> zones;  // at least one; the first is where things are by default
  bool operator==(const Region&) const = default;
};

class Places {
 public:
  // At least one region; the first is the default.
  explicit Places(std::vector<Region> regions) : regions_(std::move(regions)) {}
  Places() : Places(std::vector<Region>{{"cn-local", {"cn-local-a"}}}) {}

  // A zone belongs to the region whose name and "-" it begins with; with one region all are its
  // own. A region without a zone gets one, "-a". kInvalid for a name that is empty, too long, not
  // of letters, digits and dashes, given twice, or for a zone of no region.
  static Result<Places> parse(const std::vector<std::string>& regions,
                              const std::vector<std::string>& zones);

  const std::vector<Region>& regions() const { return regions_; }
  const Region& home() const { return regions_.front(); }
  // Null: there is none.
  const Region* find(std::string_view region) const;
  const Region* find_by_zone(std::string_view zone) const;

 private:
  std::vector<Region> regions_;
};

// Where a request is about: RegionId and ZoneId, empty where it does not say.
struct Location {
  std::string region;
  std::string zone;
};
// Completes `at`: the zone's region, the region's first zone, the home. InvalidRegionId.NotFound,
// InvalidZoneId.NotFound (404), also for a zone of another region.
Verdict location_must_exist(const Places& places, Location& at);

}  // namespace clouddisk
