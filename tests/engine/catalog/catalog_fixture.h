// catalog_fixture.h: a real ring and a real set of three replica folders in a temporary directory.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "engine/base/log.h"
#include "engine/log/replica_set.h"
#include "engine/ring/uring_ring.h"

namespace clouddisk {

class TempDirectory {
 public:
  TempDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "clouddisk-XXXXXX").string();
    CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  TempDirectory(const TempDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// One life of the daemon: a ring and the replica set as found at its start.
struct Machine {
  explicit Machine(const std::filesystem::path& root, std::optional<unsigned> trusted = {}) {
    set_log_level(LogLevel::kOff);
    auto made = UringRing::create({});
    CHECK(made.has_value());
    ring = std::move(*made);
    ReplicaSet::Options options;
    for (unsigned i = 0; i < kReplicaCount; ++i) options.folders[i] = folder(root, i).string();
    options.trusted_single = trusted;
    auto opened = ring->block_on(ReplicaSet::open(*ring, options));
    CHECK(opened.has_value());
    replicas = std::move(*opened);
  }

  static std::filesystem::path folder(const std::filesystem::path& root, unsigned replica) {
    return root / ("replica-" + std::to_string(replica + 1));
  }

  std::unique_ptr<UringRing> ring;
  std::unique_ptr<ReplicaSet> replicas;
};

}  // namespace clouddisk
