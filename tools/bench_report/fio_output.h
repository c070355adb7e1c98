// fio_output.h: what fio printed, checked. It is another program's output, perhaps another
// version's, perhaps cut off: whatever is missing, of the wrong type or out of any reason is
// kCorrupt with the name of the member or the number of the line. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace clouddisk::bench {

struct Percentile {
  double percent = 0;  // 99.9
  double microseconds = 0;
};

struct FioDirection {
  std::uint64_t requests = 0;
  std::uint64_t bytes = 0;
  std::uint64_t runtime_ms = 0;
  double mean_us = 0;  // latency, from request to answer
  double max_us = 0;
  std::vector<Percentile> percentiles;  // in order; empty when there was no request
};

struct FioResult {
  FioDirection read, write;

  std::uint64_t requests() const { return read.requests + write.requests; }
  std::uint64_t bytes() const { return read.bytes + write.bytes; }
  double seconds() const {
    return static_cast<double>(std::max(read.runtime_ms, write.runtime_ms)) / 1'000;
  }
  double iops() const { return seconds() > 0 ? static_cast<double>(requests()) / seconds() : 0; }
};

// Of one group. kIo: fio says that requests failed; the message names the errno. What stands before
// the first '{' is passed over: fio puts warnings there.
Result<FioResult> parse_fio_result(std::string_view json);

struct FioLogLine {
  std::int64_t unix_ms = 0;
  double value = 0;        // nanoseconds of a request, or requests a second
  unsigned direction = 0;  // 0 read, 1 write
};

// "1795876755865, 40617, 0, 4096, 0": further columns are of no interest.
Result<std::vector<FioLogLine>> parse_fio_log(std::string_view text);

}  // namespace clouddisk::bench
