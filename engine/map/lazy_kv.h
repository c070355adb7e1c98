// lazy_kv.h: an environment that is made by the first that writes to it. Until then there is
// nothing on the device, and whoever reads finds nothing: most disks of tests and of tenants that
// come and go are never written to, and a folder with two files is dear where all else is cheap.
//
// Thread, durability, errors: as kv.h has them. What making it fails with is what write() fails
// with; the next write() tries again.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "engine/ring/kv.h"

namespace clouddisk {

class LazyKv final : public Kv {
 public:
  // `make` runs where write() is called, once at a time, until it succeeds.
  using Make = std::function<Result<std::unique_ptr<Kv>>()>;
  explicit LazyKv(Make make) : make_(std::move(make)) {}

  Result<std::unique_ptr<KvReader>> read() override;
  Result<std::unique_ptr<KvWriter>> write() override;
  Result<void> sync() override;
  std::uint64_t size_bytes() const override;

 private:
  Make make_;
  std::mutex making_;
  std::unique_ptr<Kv> owned_;
  std::atomic<Kv*> made_{nullptr};  // owned_, once it is there
};

}  // namespace clouddisk
