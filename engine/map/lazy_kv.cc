#include "engine/map/lazy_kv.h"

namespace clouddisk {
namespace {

class NothingThere final : public KvReader {
 public:
  Result<std::optional<KvBytes>> get(KvBytes) override { return std::optional<KvBytes>(); }
  Result<std::optional<Entry>> lower_bound(KvBytes) override { return std::optional<Entry>(); }
  Result<std::optional<Entry>> floor(KvBytes) override { return std::optional<Entry>(); }
  Result<void> scan(KvBytes, KvBytes, const std::function<bool(KvBytes, KvBytes)>&) override {
    return {};
  }
};

}  // namespace

Result<std::unique_ptr<KvReader>> LazyKv::read() {
  if (Kv* kv = made_) return kv->read();
  return std::unique_ptr<KvReader>(std::make_unique<NothingThere>());
}

Result<std::unique_ptr<KvWriter>> LazyKv::write() {
  if (Kv* kv = made_) return kv->write();
  {
    const std::lock_guard lock(making_);
    if (owned_ == nullptr) {
      auto made = make_();
      if (!made) return made.error();
      owned_ = std::move(*made);
      made_ = owned_.get();
    }
  }
  return owned_->write();
}

Result<void> LazyKv::sync() {
  Kv* kv = made_;
  return kv != nullptr ? kv->sync() : Result<void>{};
}

std::uint64_t LazyKv::size_bytes() const {
  const Kv* kv = made_;
  return kv != nullptr ? kv->size_bytes() : 0;
}

}  // namespace clouddisk
