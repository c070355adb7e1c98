// local_segment_store.h: segments as files of one name and content in each replica folder:
// <folder>/disks/<disk id>/segment-<sequence, 16 hex digits>.
//
// A removed segment becomes spare-<n> and is renamed into the next one: a file that was written
// before takes an fdatasync without a journal commit. Space is allocated in steps ahead of the
// writes. Thread: the disk's ring.
#pragma once

#include <array>
#include <map>
#include <string>

#include "engine/log/file_cache.h"
#include "engine/log/segment_format.h"
#include "engine/log/segment_store.h"

namespace clouddisk {

class LocalSegmentStore final : public SegmentStore {
 public:
  struct Options {
    Duration stall_max = std::chrono::seconds(2);  // a copy that takes longer is dropped (I1)
    std::uint32_t allocate_step_blocks = 8_MiB / kBlockSize;
    unsigned spares_max = 4;  // files kept for reuse, in each folder
  };

  LocalSegmentStore(Ring& ring, ReplicaSet& replicas, FileCache& files, std::string disk_id,
                    Options options);

  // Makes the disk's folder in every folder that takes writes. Call before anything else.
  Task<Result<void>> open();
  // Removes a disk's folders everywhere.
  static Task<Result<void>> remove_disk(Ring& ring, ReplicaSet& replicas, std::string disk_id);
  // No operation may be under way.
  void close();

  Ring& ring() override { return ring_; }
  Task<Result<std::vector<SegmentSeq>>> list() override;
  Task<Result<void>> create(SegmentSeq segment, Buffer header) override;
  bool has_space(SegmentSeq segment, std::uint32_t end_block) const override;
  Task<Result<void>> ensure_space(SegmentSeq segment, std::uint32_t end_block) override;
  Task<Result<void>> append(SegmentSeq segment, std::uint32_t block,
                            std::shared_ptr<const AppendData> data) override;
  Task<Result<void>> flush() override;
  ReplicaMask readable() const override { return replicas_.in_sync_mask(); }
  Task<Result<void>> read(unsigned copy, SegmentSeq segment, std::uint32_t block,
                          Buffer into) override;
  Task<Result<void>> repair(unsigned copy, SegmentSeq segment, std::uint32_t block,
                            Buffer good) override;
  Task<Result<void>> restore(unsigned copy, SegmentSeq segment, Buffer header) override;
  Task<Result<void>> remove(SegmentSeq segment) override;
  std::uint64_t spare_bytes() const override { return spares_.size() * kSegmentSize; }

  // Waits until nothing is under way on a copy that is out: a late write of it must not land on
  // what resync is about to put there.
  Task<void> settle(unsigned copy);
  // Files of one copy, for resync.
  Task<Result<std::vector<SegmentSeq>>> list_copy(unsigned copy);
  Task<Result<void>> discard(unsigned copy, SegmentSeq segment);  // a file the others don't have
  Task<Result<void>> make_folder(unsigned copy);
  Task<Result<void>> flush_copy(unsigned copy);

 private:
  // What a step did on each copy.
  struct Outcome {
    ReplicaMask tried = 0;
    ReplicaMask failed = 0;
    std::array<std::string, kReplicaCount> reasons;
    std::array<Errc, kReplicaCount> codes{};
    std::uint32_t under_way = 0;
    Signal* finished = nullptr;
  };
  struct OpenSegment {
    std::uint32_t allocated_blocks = 0;
    ReplicaMask unflushed = 0;
    std::uint64_t changes = 0;  // grows with each write, to see whether a flush covered all
  };
  using Step = Task<Result<void>> (LocalSegmentStore::*)(unsigned copy, SegmentSeq segment,
                                                         std::uint32_t block,
                                                         std::shared_ptr<const AppendData> data);

  std::string folder(unsigned copy) const;
  std::string path(unsigned copy, SegmentSeq segment) const;
  ReplicaMask writable() const { return replicas_.in_sync_mask() | replicas_.receiving_mask(); }

  // Runs `step` on every copy that takes writes, at once, for at most stall_max.
  Task<Outcome> on_copies(ReplicaMask copies, Step step, SegmentSeq segment, std::uint32_t block,
                          std::shared_ptr<const AppendData> data);
  Task<void> run_step(std::shared_ptr<Outcome> outcome, std::shared_ptr<Signal> finished,
                      unsigned copy, Step step, SegmentSeq segment, std::uint32_t block,
                      std::shared_ptr<const AppendData> data);
  // Drops what failed; the answer to the caller.
  Task<Result<void>> settle_outcome(Outcome outcome, const char* what);

  Task<Result<void>> create_on(unsigned copy, SegmentSeq segment, std::uint32_t block,
                               std::shared_ptr<const AppendData> data);
  Task<Result<void>> allocate_on(unsigned copy, SegmentSeq segment, std::uint32_t block,
                                 std::shared_ptr<const AppendData> data);
  Task<Result<void>> append_on(unsigned copy, SegmentSeq segment, std::uint32_t block,
                               std::shared_ptr<const AppendData> data);
  Task<Result<void>> flush_on(unsigned copy, SegmentSeq segment, std::uint32_t block,
                              std::shared_ptr<const AppendData> data);
  Task<Result<FileCache::FileRef>> file(unsigned copy, SegmentSeq segment);
  Task<void> read_into(std::shared_ptr<Outcome> outcome, std::shared_ptr<Signal> finished,
                       unsigned copy, SegmentSeq segment, std::uint32_t block, Buffer into);

  Ring& ring_;
  ReplicaSet& replicas_;
  FileCache& files_;
  std::string disk_id_;
  Options options_;
  std::map<SegmentSeq, OpenSegment> open_;  // segments written since they were last flushed
  std::map<std::uint64_t, ReplicaMask> spares_;
  std::uint64_t next_spare_ = 1;
  std::array<std::uint64_t, kReplicaCount> under_way_{};
  Signal idle_;
};

}  // namespace clouddisk
