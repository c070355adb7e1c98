// changed_since.h: the NBD context "clouddisk:changed-since:<snapshot>": flag 1 marks what differs
// from that snapshot of the same disk, as qemu's dirty bitmaps do. A disk and its snapshots offer
// it for each other snapshot. Thread: as nbd/meta_context.h says.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nbd/meta_context.h"
#include "snapshot/diff.h"

namespace clouddisk {

class ChangedSince final : public nbd::MetaContextSource {
 public:
  // `snapshots`: ids that can be compared with, on the server's ring. `open`: on the device's ring.
  ChangedSince(std::function<std::vector<std::string>()> snapshots,
               std::function<Task<Result<std::unique_ptr<snapshot::Diff>>>(std::string)> open)
      : snapshots_(std::move(snapshots)), open_(std::move(open)) {}

  std::vector<std::string> list(std::string_view query) const override;
  bool has(std::string_view name) const override;
  Task<Result<std::unique_ptr<nbd::MetaContext>>> open(std::string name) override;

 private:
  std::function<std::vector<std::string>()> snapshots_;
  std::function<Task<Result<std::unique_ptr<snapshot::Diff>>>(std::string)> open_;
};

}  // namespace clouddisk
