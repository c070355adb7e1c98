// fake_host.h: a DiskHost whose storage is one small file a disk, so that it outlives the process,
// and which can make the process die at a chosen step.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/control/disk_host.h"

namespace clouddisk {

class FakeHost final : public DiskHost {
 public:
  explicit FakeHost(std::filesystem::path directory) : directory_(std::move(directory)) {
    std::filesystem::create_directories(directory_);
  }

  // The process dies, as by kill -9, at this step; each call has one before and one after it.
  void crash_at(unsigned step) { crash_at_ = step; }
  // The next calls of this name fail.
  void fail_next(std::string call, Errc code, unsigned times = 1) {
    failing_ = {std::move(call), code, times};
  }

  Task<Result<void>> create_disk(DiskSettings settings) override {
    if (auto r = begin("create"); !r) co_return r;
    if (std::filesystem::exists(file(settings.id))) co_return fail(Errc::kExists, "there already");
    write(settings);
    co_return end();
  }
  Task<Result<void>> serve_disk(DiskSettings settings) override {
    if (auto r = begin("serve"); !r) co_return r;
    if (!std::filesystem::exists(file(settings.id))) co_return fail(Errc::kNotFound, "no storage");
    CHECK(settings.size_bytes >= stored_size(settings.id));  // A disk never shrinks.
    write(settings);
    served_[settings.id] = settings;
    co_return end();
  }
  Task<Result<void>> stop_disk(std::string id) override {
    if (auto r = begin("stop"); !r) co_return r;
    served_.erase(id);
    co_return end();
  }
  Task<Result<void>> delete_disk(std::string id) override {
    if (auto r = begin("delete"); !r) co_return r;
    CHECK(!served_.contains(id));
    std::filesystem::remove(file(id));
    co_return end();
  }
  Task<Result<void>> apply_settings(DiskSettings settings) override {
    if (auto r = begin("apply"); !r) co_return r;
    const auto at = served_.find(settings.id);
    if (at != served_.end()) {
      at->second = settings;
      write(settings);
    }
    co_return end();
  }
  Task<Result<DiskStats>> stats(std::string id) override {
    if (!served_.contains(id)) co_return fail(Errc::kNotFound, "not open");
    DiskStats stats;
    stats.reads = 7;
    co_return stats;
  }
  std::vector<ReplicaStatus> replicas() override {
    std::vector<ReplicaStatus> all;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      all.push_back(
          {i, "/r" + std::to_string(i + 1), ReplicaState::kInSync, Generation(3), "", 0, 0});
    }
    return all;
  }
  Task<Result<void>> start_resync(unsigned replica) override {
    if (auto r = begin("resync"); !r) co_return r;
    resynced_.insert(replica);
    co_return Result<void>{};
  }
  std::vector<NbdAddress> nbd_addresses() const override {
    return {{"unix:/run/a b/nbd.sock"}, {"tcp:127.0.0.1:10809"}, {"tcp:127.0.0.1:10810", true}};
  }

  const std::map<std::string, DiskSettings>& served() const { return served_; }
  const std::set<unsigned>& resynced() const { return resynced_; }
  std::set<std::string> stored() const {
    std::set<std::string> ids;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      ids.insert(entry.path().filename().string());
    }
    return ids;
  }
  std::uint64_t stored_size(const std::string& id) const {
    std::uint64_t size = 0;
    std::ifstream(file(id)) >> size;
    return size;
  }

 private:
  struct Failure {
    std::string call;
    Errc code = Errc::kIo;
    unsigned times = 0;
  };

  std::filesystem::path file(const std::string& id) const { return directory_ / id; }
  void write(const DiskSettings& settings) {
    std::ofstream(file(settings.id)) << settings.size_bytes;
  }
  void step() {
    if (++step_ == crash_at_) _exit(137);
  }
  Result<void> begin(const std::string& call) {
    step();
    if (failing_.times == 0 || failing_.call != call) return {};
    --failing_.times;
    return fail(failing_.code, "{} fails on purpose", call);
  }
  Result<void> end() {
    step();
    return {};
  }

  std::filesystem::path directory_;
  std::map<std::string, DiskSettings> served_;
  std::set<unsigned> resynced_;
  Failure failing_;
  unsigned step_ = 0;
  unsigned crash_at_ = 0;
};

}  // namespace clouddisk
