// disk_fixture.h: a replica set and the pools of one ring, on real files in a temporary folder.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "engine/disk/disk.h"
#include "engine/ring/uring_ring.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk {

// What a daemon has beside its disks. Destroyed and made again, it is a restart.
struct Machine {
  Machine(Ring& ring, const std::string& root, std::optional<unsigned> trusted = std::nullopt,
          std::size_t read_cache_bytes = 0)
      : files(ring, 256),
        pages(16_MiB),
        reads(read_cache_bytes),
        client_buffers(ring, 64_MiB),
        pack_buffers(ring, 16_MiB),
        work_buffers(ring, 32_MiB),
        log_buffers(ring, 32_MiB),
        header_buffers(ring, 2_MiB) {
    ReplicaSet::Options options;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      options.folders[i] = root + "/replica-" + std::to_string(i + 1);
    }
    options.trusted_single = trusted;
    auto opened = ring.block_on(ReplicaSet::open(ring, options));
    if (opened) {
      replicas = std::move(*opened);
      environment.emplace(DiskEnvironment{ring, *replicas, files, pages, client_buffers,
                                          work_buffers, log_buffers, header_buffers, &reads});
      packs.emplace(DiskEnvironment{ring, *replicas, files, pages, pack_buffers, work_buffers,
                                    log_buffers, header_buffers});
    } else {
      error = opened.error();
    }
  }

  std::optional<Error> error;
  std::unique_ptr<ReplicaSet> replicas;
  FileCache files;
  PageCache pages;
  ReadCache reads;
  BufferPool client_buffers;
  BufferPool pack_buffers;
  BufferPool work_buffers;
  BufferPool log_buffers;
  BufferPool header_buffers;
  std::optional<DiskEnvironment> environment;
  std::optional<DiskEnvironment> packs;  // for what snapshots are packed in
  DiskEnvironment& pack_environment() { return *packs; }
};

inline Disk::Identity identity_in(const std::string& root, std::uint64_t size_bytes) {
  return Disk::Identity{"d-test0000000000000001", size_bytes, root + "/index/d-test"};
}

}  // namespace clouddisk
