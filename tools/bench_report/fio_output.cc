#include "tools/bench_report/fio_output.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace clouddisk::bench {
namespace {

using Json = nlohmann::json;

constexpr double kFigureMax = 1e15;
constexpr std::int64_t kUnixMsMax = 100'000'000'000'000;  // the year 5138

// The first problem is kept; what follows it gives zeros.
class Reader {
 public:
  const Json& object(const Json& from, std::string_view member) {
    return checked(from, member, &Json::is_object, "no object");
  }
  double number(const Json& from, std::string_view member) {
    const Json& value = checked(from, member, &Json::is_number, "no number");
    if (!value.is_number()) return 0;
    const double figure = value.get<double>();
    if (std::isfinite(figure) && figure >= 0 && figure <= kFigureMax) return figure;
    report(member, "no figure that can be");
    return 0;
  }
  std::uint64_t count(const Json& from, std::string_view member) {
    return static_cast<std::uint64_t>(number(from, member));
  }
  void report(std::string_view member, std::string_view why) {
    if (problem_.empty()) problem_ = fmt::format("fio's '{}' is {}", member, why);
  }
  const std::string& problem() const { return problem_; }

 private:
  const Json& checked(const Json& from, std::string_view member, bool (Json::*right)() const,
                      std::string_view why) {
    static const Json kNothing;
    const auto at = from.is_object() ? from.find(member) : from.end();
    if (from.is_object() && at != from.end() && ((*at).*right)()) return *at;
    report(member, why);
    return kNothing;
  }
  std::string problem_;
};

// Members are "99.900000": nanoseconds.
void read_percentiles(Reader& reader, const Json& latency, std::vector<Percentile>& into) {
  const Json& table = reader.object(latency, "percentile");
  if (!table.is_object()) return;
  for (const auto& [key, value] : table.items()) {
    double percent = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), percent);
    if (error != std::errc() || end != key.data() + key.size() || !(percent > 0) || percent > 100) {
      reader.report(key, "no percentile");
      return;
    }
    into.push_back({percent, reader.number(table, key) / 1'000});
  }
  std::sort(into.begin(), into.end(),
            [](const Percentile& a, const Percentile& b) { return a.percent < b.percent; });
}

FioDirection read_direction(Reader& reader, const Json& job, std::string_view member) {
  FioDirection direction;
  const Json& from = reader.object(job, member);
  direction.requests = reader.count(from, "total_ios");
  direction.bytes = reader.count(from, "io_bytes");
  direction.runtime_ms = reader.count(from, "runtime");
  if (direction.requests == 0 || !reader.problem().empty()) return direction;
  // Of completion only, where fio was told to keep it; else of the whole.
  const Json& clat = reader.object(from, "clat_ns");
  const bool kept = clat.is_object() && clat.contains("percentile");
  const Json& latency = kept ? clat : reader.object(from, "lat_ns");
  direction.mean_us = reader.number(latency, "mean") / 1'000;
  direction.max_us = reader.number(latency, "max") / 1'000;
  if (kept) read_percentiles(reader, latency, direction.percentiles);
  return direction;
}

template <class Number>
bool take_number(std::string_view& line, Number& into) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), into);
  if (error != std::errc()) return false;
  line.remove_prefix(static_cast<std::size_t>(end - line.data()));
  if (line.empty()) return true;
  if (line.front() != ',') return false;
  line.remove_prefix(1);
  return true;
}

}  // namespace

Result<FioResult> parse_fio_result(std::string_view text) {
  const std::size_t begin = text.find('{');
  if (begin == std::string_view::npos) return fail(Errc::kCorrupt, "fio printed no JSON");
  const Json root = Json::parse(text.substr(begin), nullptr, false);
  const auto jobs = root.is_object() ? root.find("jobs") : root.end();
  if (!root.is_object() || jobs == root.end() || !jobs->is_array() || jobs->size() != 1) {
    return fail(Errc::kCorrupt, "fio's JSON has no single group of jobs");
  }
  const Json& job = jobs->front();
  Reader reader;
  const auto error = static_cast<int>(std::min(reader.number(job, "error"), 10'000.0));
  if (error != 0) return fail(Errc::kIo, "fio's requests failed: {}", errno_text(error));
  FioResult result;
  result.read = read_direction(reader, job, "read");
  result.write = read_direction(reader, job, "write");
  if (!reader.problem().empty()) return fail(Errc::kCorrupt, "{}", reader.problem());
  return result;
}

Result<std::vector<FioLogLine>> parse_fio_log(std::string_view text) {
  std::vector<FioLogLine> lines;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.empty()) continue;
    FioLogLine read;
    if (!take_number(line, read.unix_ms) || !take_number(line, read.value) ||
        !take_number(line, read.direction) || read.unix_ms < 0 || read.unix_ms > kUnixMsMax ||
        !std::isfinite(read.value) || read.value < 0 || read.value > kFigureMax) {
      return fail(Errc::kCorrupt, "line {} of fio's log makes no sense", number);
    }
    lines.push_back(read);
  }
  return lines;
}

}  // namespace clouddisk::bench
