// request_throttle.h: how many requests a second each access key may make. What it does not use it
// saves up for a second. Time is an argument. Not thread-safe. Bounded by the keys there are.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/units.h"

namespace clouddisk {

class RequestThrottle {
 public:
  explicit RequestThrottle(std::uint32_t requests_per_second)  // 0: no limit
      : rate_(requests_per_second) {}

  // Nothing: the request may go on. Otherwise the time in which one more may.
  std::optional<Duration> admit(std::string_view key, TimePoint now);

 private:
  struct Bucket {
    double left = 0;
    TimePoint filled{};
  };
  double fill(const Bucket& bucket, TimePoint now) const;

  double rate_;
  std::map<std::string, Bucket, std::less<>> buckets_;
};

}  // namespace clouddisk
