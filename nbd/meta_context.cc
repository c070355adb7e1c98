#include "nbd/meta_context.h"

namespace clouddisk::nbd {
namespace {

std::uint64_t flags_of(ExtentState state) {
  switch (state) {
    case ExtentState::kData:
      return 0;
    case ExtentState::kZero:
      return kStateZero;
    case ExtentState::kHole:
      return kStateZero | kStateHole;
  }
  return 0;
}

}  // namespace

Task<Result<std::vector<StatusExtent>>> AllocationContext::status(std::uint64_t offset,
                                                                  std::uint64_t length,
                                                                  std::uint32_t extents_max) {
  auto extents = co_await device_.extents(offset, length, extents_max);
  if (!extents) co_return extents.error();
  std::vector<StatusExtent> status;
  status.reserve(extents->size());
  for (const Extent& extent : *extents) status.push_back({extent.length, flags_of(extent.state)});
  co_return status;
}

}  // namespace clouddisk::nbd
