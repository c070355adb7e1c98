// meta_context.h: what BLOCK_STATUS can be asked about. base:allocation is built in; an export may
// bring contexts of its own, such as "which blocks changed since that snapshot".
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "engine/disk/block_device.h"

namespace clouddisk::nbd {

inline constexpr std::string_view kAllocationContext = "base:allocation";
inline constexpr std::uint64_t kStateHole = 1;  // flags of base:allocation
inline constexpr std::uint64_t kStateZero = 2;

struct StatusExtent {
  std::uint64_t length = 0;  // bytes, at least one
  std::uint64_t flags = 0;   // meaning: the context's. Plain replies carry the lower 32 bits.
};

// One context of one session. Thread: the device's ring; gone before the session is.
class MetaContext {
 public:
  virtual ~MetaContext() = default;
  // From `offset` on, front to back, neighbours merged; covers at least one byte and at most
  // `length`, and stops after `extents_max`.
  virtual Task<Result<std::vector<StatusExtent>>> status(std::uint64_t offset, std::uint64_t length,
                                                         std::uint32_t extents_max) = 0;
};

// The contexts that an export offers beside base:allocation.
class MetaContextSource {
 public:
  virtual ~MetaContextSource() = default;
  // Server's ring. Full names that fit the query of a client that lists: a namespace
  // ("clouddisk:"), a beginning of names as the namespace defines it, or a full name. Empty: all.
  virtual std::vector<std::string> list(std::string_view query) const = 0;
  // Server's ring. Whether a client may select that name.
  virtual bool has(std::string_view name) const = 0;
  // Device's ring, as a session begins. What is gone since has() answered ends the session.
  virtual Task<Result<std::unique_ptr<MetaContext>>> open(std::string name) = 0;
};

// base:allocation, from what the device says of its extents.
class AllocationContext final : public MetaContext {
 public:
  explicit AllocationContext(BlockDevice& device) : device_(device) {}
  Task<Result<std::vector<StatusExtent>>> status(std::uint64_t offset, std::uint64_t length,
                                                 std::uint32_t extents_max) override;

 private:
  BlockDevice& device_;
};

}  // namespace clouddisk::nbd
