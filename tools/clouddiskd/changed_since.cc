#include "tools/clouddiskd/changed_since.h"

#include <algorithm>

namespace clouddisk {
namespace {

constexpr std::string_view kPrefix = "clouddisk:changed-since:";
constexpr std::uint64_t kChanged = 1;

class DiffContext final : public nbd::MetaContext {
 public:
  explicit DiffContext(std::unique_ptr<snapshot::Diff> diff) : diff_(std::move(diff)) {}
  Task<Result<std::vector<nbd::StatusExtent>>> status(std::uint64_t offset, std::uint64_t length,
                                                      std::uint32_t extents_max) override {
    auto found = co_await diff_->extents(offset, length, extents_max);
    if (!found) co_return found.error();
    std::vector<nbd::StatusExtent> extents;
    for (const snapshot::DiffExtent& one : *found) {
      extents.push_back({one.length, one.changed ? kChanged : 0});
    }
    co_return extents;
  }

 private:
  std::unique_ptr<snapshot::Diff> diff_;
};

}  // namespace

std::vector<std::string> ChangedSince::list(std::string_view query) const {
  std::vector<std::string> names;
  for (const std::string& id : snapshots_()) {
    std::string name = std::string(kPrefix) + id;
    const bool fits = query.empty() || name.starts_with(query);
    if (fits) names.push_back(std::move(name));
  }
  return names;
}

bool ChangedSince::has(std::string_view name) const {
  if (!name.starts_with(kPrefix)) return false;
  const auto ids = snapshots_();
  return std::find(ids.begin(), ids.end(), name.substr(kPrefix.size())) != ids.end();
}

Task<Result<std::unique_ptr<nbd::MetaContext>>> ChangedSince::open(std::string name) {
  std::string id = name.substr(kPrefix.size());
  auto diff = co_await open_(std::move(id));
  if (!diff) co_return diff.error();
  std::unique_ptr<nbd::MetaContext> context = std::make_unique<DiffContext>(std::move(*diff));
  co_return context;
}

}  // namespace clouddisk
