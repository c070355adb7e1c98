#include "tests/simulation/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/base/check.h"

namespace clouddisk::simulation {
namespace {

constexpr std::size_t kWords = kSectorSize / 8;
constexpr unsigned kNumberShift = 40;

std::uint64_t filler(Stamp stamp, std::uint64_t sector) {
  return stamp * 0x9e3779b97f4a7c15ULL + sector * 0xc2b2ae3d27d4eb4fULL + 1;
}

bool all_are(const std::byte* data, std::size_t from, std::uint64_t word) {
  std::uint64_t wrong = 0;
  for (std::size_t i = from; i < kWords; ++i) {
    std::uint64_t found = 0;
    std::memcpy(&found, data + i * 8, 8);
    wrong |= found ^ word;
  }
  return wrong == 0;
}

std::string name_of(Stamp stamp) {
  if (stamp == kGarbage) return "bytes that nobody wrote there";
  if (stamp == 0) return "zeros";
  return fmt::format("{}:{}", stamp >> kNumberShift,
                     stamp & ((std::uint64_t{1} << kNumberShift) - 1));
}

}  // namespace

void fill_sectors(std::byte* data, std::uint64_t first, std::uint64_t count, Stamp stamp) {
  for (std::uint64_t s = 0; s < count; ++s, data += kSectorSize) {
    const std::uint64_t word = stamp == 0 ? 0 : filler(stamp, first + s);
    for (std::size_t i = 0; i < kWords; ++i) std::memcpy(data + i * 8, &word, 8);
    std::memcpy(data, &stamp, 8);
  }
}

bool holds(const std::byte* data, std::uint64_t sector, Stamp stamp) {
  Stamp found = 0;
  std::memcpy(&found, data, 8);
  return found == stamp && all_are(data, 1, stamp == 0 ? 0 : filler(stamp, sector));
}

Stamp read_stamp(const std::byte* data, std::uint64_t sector) {
  Stamp stamp = 0;
  std::memcpy(&stamp, data, 8);
  return stamp != kGarbage && holds(data, sector, stamp) ? stamp : kGarbage;
}

void DiskModel::resize(std::uint64_t sectors) {
  CHECK(sectors >= cells_.size());
  cells_.resize(sectors);
  settled_.resize(sectors, 0);
}

const Request* DiskModel::request_of(Stamp stamp) const {
  if (stamp >> kNumberShift != number_) return nullptr;
  const std::uint64_t index = (stamp & ((std::uint64_t{1} << kNumberShift) - 1)) - first_request_;
  return index < requests_.size() ? &requests_[index] : nullptr;
}

Stamp DiskModel::begin(std::uint64_t first, std::uint64_t count, bool zero, std::uint64_t now) {
  Request request;
  request.stamp = number_ << kNumberShift | next_++;
  request.first = first;
  request.count = count;
  request.begin = now;
  request.zero = zero;
  requests_.push_back(request);
  for (std::uint64_t s = first; s < first + count; ++s) {
    Cell& cell = cells_[s];
    cell.touched = static_cast<std::uint32_t>(now);
    cell.mixed = cell.under_way > 0;
    ++cell.under_way;
  }
  return request.stamp;
}

void DiskModel::end(Stamp stamp, bool failed, bool durable, std::uint64_t now) {
  Request& request = const_cast<Request&>(*request_of(stamp));
  request.end = now;
  request.failed = failed;
  request.durable = durable;
  bool unsure = false;
  for (std::uint64_t s = request.first; s < request.first + request.count; ++s) {
    Cell& cell = cells_[s];
    cell.touched = static_cast<std::uint32_t>(now);
    --cell.under_way;
    if (failed || cell.mixed || cell.under_way > 0) {
      cell.mixed = true;
      cell.unsure = true;
      unsure = true;
    } else {
      cell.now = request.value();
      cell.unsure = false;
    }
  }
  if (unsure) unsure_.emplace_back(request.first, request.count);
}

// Slow, and rare: requests overlapped here.
bool DiskModel::may_read(std::uint64_t sector, Stamp found, std::uint64_t begin,
                         std::uint64_t end) const {
  // The latest begin of a request that had ended when the read began.
  std::uint64_t floor = 0;
  for (const Request& request : requests_) {
    if (request.covers(sector) && !request.failed && request.end < begin) {
      floor = std::max(floor, request.begin);
    }
  }
  if (floor == 0 && settled_[sector] == found) return true;
  for (const Request& request : requests_) {
    if (!request.covers(sector) || request.value() != found) continue;
    if (request.begin < end && request.end >= floor) return true;
  }
  return false;
}

std::string DiskModel::describe(std::uint64_t sector, Stamp found, const char* what) const {
  std::string text = fmt::format("{} sector {} (block {}): found {}, settled {}", what, sector,
                                 sector / 8, name_of(found), name_of(settled_[sector]));
  std::size_t shown = 0;
  for (auto it = requests_.rbegin(); it != requests_.rend() && shown < 8; ++it) {
    if (!it->covers(sector)) continue;
    ++shown;
    text += fmt::format("\n    {}{} [{}, {}) from {} to {}{}", name_of(it->stamp),
                        it->zero ? " trim" : "", it->first, it->first + it->count, it->begin,
                        it->end == kNever ? std::string("never") : std::to_string(it->end),
                        it->failed ? ", failed" : "");
  }
  return text;
}

std::optional<std::string> DiskModel::check_read(std::uint64_t first,
                                                 std::span<const std::byte> data,
                                                 std::uint64_t begin, std::uint64_t end) const {
  const std::uint64_t count = data.size() / kSectorSize;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t sector = first + i;
    const std::byte* at = data.data() + i * kSectorSize;
    const Cell& cell = cells_[sector];
    const bool known = !cell.unsure && cell.under_way == 0 && cell.touched < begin;
    if (known) {
      if (holds(at, sector, cell.now)) continue;
      return describe(sector, read_stamp(at, sector),
                      fmt::format("should be {}:", name_of(cell.now)).c_str());
    }
    const Stamp found = read_stamp(at, sector);
    if (found == kGarbage || !may_read(sector, found, begin, end)) {
      return describe(sector, found, "not allowed:");
    }
  }
  return std::nullopt;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> DiskModel::take_unsure() {
  return std::exchange(unsure_, {});
}

void DiskModel::learn(std::uint64_t first, std::span<const std::byte> data) {
  for (std::uint64_t i = 0; i < data.size() / kSectorSize; ++i) {
    Cell& cell = cells_[first + i];
    CHECK(cell.under_way == 0);
    if (!std::exchange(cell.unsure, false)) continue;
    cell.now = read_stamp(data.data() + i * kSectorSize, first + i);
  }
}

void DiskModel::settle() {
  for (const Request& request : requests_) {
    for (std::uint64_t s = request.first; s < request.first + request.count; ++s) {
      settled_[s] = cells_[s].now;
    }
  }
  requests_.clear();
  first_request_ = next_;
}

Content DiskModel::content() const {
  Content content(cells_.size());
  for (std::size_t s = 0; s < cells_.size(); ++s) content[s] = cells_[s].now;
  return content;
}

std::optional<std::string> DiskModel::check_cut(const Content& content, std::uint64_t must,
                                                std::uint64_t may) const {
  const std::uint64_t asked = must;
  const bool crash = may == kNever;  // whose cut holds what was durable by itself
  std::vector<bool> visible(requests_.size());
  const auto index_of = [this](const Request& request) {
    return static_cast<std::size_t>(&request - requests_.data());
  };
  for (std::uint64_t s = 0; s < content.size(); ++s) {
    if (content[s] == kGarbage) return describe(s, content[s], "cut:");
    const Request* request = content[s] != 0 ? request_of(content[s]) : nullptr;
    if (request == nullptr) continue;
    if (!request->covers(s) || request->zero) return describe(s, content[s], "cut, misplaced:");
    if (request->begin >= may) return describe(s, content[s], "cut, from after it:");
    visible[index_of(*request)] = true;
    must = std::max(must, request->begin);
  }
  // The latest begin of a request that has to be there, by sector.
  std::vector<std::uint64_t> floor(content.size(), 0);
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const Request& request = requests_[i];
    const bool whole = !request.failed && ((crash && request.durable) || request.end < must);
    const bool seen = visible[i] && request.atomic();
    if (!whole && !seen) continue;
    const std::uint64_t last = std::min<std::uint64_t>(request.first + request.count, floor.size());
    for (std::uint64_t s = request.first; s < last; ++s) {
      floor[s] = std::max(floor[s], request.begin);
    }
  }
  // Zeros may come from any trim, and from what was there before.
  std::vector<bool> zero_possible;
  for (std::uint64_t s = 0; s < content.size(); ++s) {
    if (floor[s] == 0 && content[s] == settled_[s]) continue;
    const Request* request = content[s] != 0 ? request_of(content[s]) : nullptr;
    if (request != nullptr) {
      if (request->end >= floor[s]) continue;
      return describe(
          s, content[s],
          fmt::format("cut at {} to {}, holds {}, must be from {} on:", asked, may, must, floor[s])
              .c_str());
    }
    if (content[s] != 0)
      return describe(
          s, content[s],
          fmt::format("cut at {} to {}, holds {}, must be from {} on:", asked, may, must, floor[s])
              .c_str());
    if (zero_possible.empty()) {
      zero_possible.resize(content.size());
      for (const Request& trim : requests_) {
        if (!trim.zero || trim.begin >= may) continue;
        const std::uint64_t last = std::min<std::uint64_t>(trim.first + trim.count, floor.size());
        for (std::uint64_t at = trim.first; at < last; ++at) {
          if (trim.end >= floor[at]) zero_possible[at] = true;
        }
      }
    }
    if (!zero_possible[s]) {
      return describe(
          s, 0,
          fmt::format("cut at {} to {}, holds {}, must be from {} on:", asked, may, must, floor[s])
              .c_str());
    }
  }
  return std::nullopt;
}

void DiskModel::become(Content content) {
  cells_.assign(content.size(), Cell{});
  for (std::size_t s = 0; s < content.size(); ++s) cells_[s].now = content[s];
  settled_ = std::move(content);
  requests_.clear();
  unsure_.clear();
  first_request_ = next_;
  durable_ = 0;
}

}  // namespace clouddisk::simulation
