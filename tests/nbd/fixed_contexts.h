// fixed_contexts.h: meta contexts for tests. "test:parity" flags every other 4 KiB, "test:fails"
// answers with an error, "test:gone" is gone once it is opened, "test:anyN" says the same for all.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/units.h"
#include "nbd/meta_context.h"

namespace clouddisk::nbd {

class FixedContexts final : public MetaContextSource {
 public:
  std::vector<std::string> list(std::string_view query) const override {
    std::vector<std::string> names;
    for (const std::string name : {"test:parity", "test:fails"}) {
      if (query.empty() || query == "test:" || query == name) names.push_back(name);
    }
    return names;
  }
  bool has(std::string_view name) const override {
    return name == "test:parity" || name == "test:fails" || name == "test:gone" ||
           name.starts_with("test:any");
  }
  Task<Result<std::unique_ptr<MetaContext>>> open(std::string name) override {
    if (name == "test:gone") co_return fail(Errc::kNotFound, "it went meanwhile");
    co_return std::unique_ptr<MetaContext>(std::make_unique<Context>(std::move(name)));
  }

 private:
  class Context final : public MetaContext {
   public:
    explicit Context(std::string name) : name_(std::move(name)) {}
    Task<Result<std::vector<StatusExtent>>> status(std::uint64_t offset, std::uint64_t length,
                                                   std::uint32_t extents_max) override {
      if (name_ == "test:fails") co_return fail(Errc::kIo, "on purpose");
      std::vector<StatusExtent> extents;
      if (name_ != "test:parity") {
        extents.push_back({length, 7});
        co_return extents;
      }
      for (std::uint64_t at = offset; at < offset + length && extents.size() < extents_max;) {
        const std::uint64_t end = std::min(align_down(at, 4_KiB) + 4_KiB, offset + length);
        extents.push_back({end - at, at / 4_KiB % 2});
        at = end;
      }
      co_return extents;
    }

   private:
    const std::string name_;
  };
};

}  // namespace clouddisk::nbd
