// local_segment_store.h: segments as files of one name and content in each replica folder:
// <folder>/disks/<disk id>/segment-<sequence, 16 hex digits>.
//
// A removed segment becomes spare-<n> and is renamed into the next one: a file that was written
// before takes an fdatasync without a journal commit. Space is allocated in steps ahead of the
// writes. Thread: the disk's ring.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "engine/fault/fault_plan.h"
#include "engine/log/file_cache.h"
#include "engine/log/segment_format.h"
#include "engine/log/segment_store.h"

namespace clouddisk {

class LocalSegmentStore final : public SegmentStore,
                                public std::enable_shared_from_this<LocalSegmentStore> {
 public:
  struct Options {
    Duration stall_max = std::chrono::seconds(2);  // a copy that takes longer is dropped (I1)
    std::uint32_t allocate_step_blocks = 8_MiB / kBlockSize;
    unsigned spares_max = 4;  // files kept for reuse, in each folder; keep_spares() changes it
  };

  // Owned by a shared_ptr: an operation on a copy that hangs keeps the store alive until it ends.
  LocalSegmentStore(Ring& ring, ReplicaSet& replicas, FileCache& files, std::string disk_id,
                    Options options);

  // Makes the disk's folder in every folder that takes writes. Call before anything else.
  Task<Result<void>> open();
  // What open() saw of the segments' names answers list() until a segment is begun or removed, a
  // copy comes or goes, or this: recovery asks for them again and again.
  void forget_listing() { listing_.reset(); }
  // open() found something of the disk.
  bool was_there() const { return was_there_; }
  // Removes a disk's folders everywhere: nothing of it is in use or found any more. The space comes
  // back with purge_removed().
  static Task<Result<void>> remove_disk(Ring& ring, ReplicaSet& replicas, std::string disk_id);
  // Lets go of the files. No call may be under way.
  void close();

  // Faults of single copies (FaultSpec::replica), made at the first call; see engine/fault. Reads,
  // appends and flushes meet them, and what takes space. Repairs and resync do not.
  FaultPlan& faults();
  // Clears them and waits for operations that met one, for stall_max at most; before closing. One
  // that hung on a copy that is out by now ends late, and is not carried out any more.
  Task<void> end_faults();

  Ring& ring() override { return ring_; }
  Task<Result<std::vector<SegmentSeq>>> list() override;
  Task<Result<void>> create(SegmentSeq segment, Buffer header) override;
  bool has_space(SegmentSeq segment, std::uint32_t end_block) const override;
  Task<Result<void>> ensure_space(SegmentSeq segment, std::uint32_t end_block) override;
  Task<void> adopt(SegmentSeq segment) override;
  Task<Result<void>> append(SegmentSeq segment, std::uint32_t block,
                            std::shared_ptr<const AppendData> data) override;
  Task<Result<void>> flush() override;
  ReplicaMask readable() const override { return replicas_.in_sync_mask(); }
  Task<Result<void>> read(unsigned copy, SegmentSeq segment, std::uint32_t block, Buffer into,
                          std::uint32_t* blocks_there = nullptr) override;
  Task<Result<void>> repair(unsigned copy, SegmentSeq segment, std::uint32_t block,
                            Buffer good) override;
  Task<Result<void>> restore(unsigned copy, SegmentSeq segment, Buffer header) override;
  Task<Result<void>> remove(SegmentSeq segment) override;
  void keep_spares(std::size_t count_max) override {
    options_.spares_max = static_cast<unsigned>(count_max);
  }
  Task<Result<void>> release_spares() override;
  std::uint64_t spare_bytes() const override { return spares_.size() * kSegmentSize; }

  // Waits until nothing is under way on a copy that is out: a late write of it must not land on
  // what resync is about to put there.
  Task<void> settle(unsigned copy);
  // Files of one copy, for resync.
  Task<Result<std::vector<SegmentSeq>>> list_copy(unsigned copy);
  Task<Result<bool>> has(unsigned copy, SegmentSeq segment);
  // Takes a copy out of the set.
  Task<void> give_up(unsigned copy, std::string reason);
  // The next use of the file finds it by its name again.
  void reopen(unsigned copy, SegmentSeq segment) { files_.forget({owner_, copy, segment.value}); }
  // Writes to one copy, not durably: see flush_copy().
  Task<Result<void>> put(unsigned copy, SegmentSeq segment, std::uint32_t block, Buffer data);
  Task<Result<void>> discard(unsigned copy, SegmentSeq segment);  // a file the others don't have
  // Whether an fdatasync of the file failed: what it covered may be in a cache alone, whatever a
  // read shows, and a later fdatasync that succeeds tells nothing of it.
  bool flush_failed(unsigned copy, SegmentSeq segment) const {
    return flush_failed_[copy].count(segment) != 0;
  }
  // Where an fdatasync of the copy failed before this store was made (the disk was closed since, or
  // the daemon), nobody knows any more of which file: none is trusted that this store did not make.
  // The first call counts: what was made anew since is good.
  void distrust_former(unsigned copy, const std::vector<SegmentSeq>& segments);
  // Whether the log begins it just now or writes to it: a copy that joins may have it before the
  // others do.
  bool is_new(SegmentSeq segment) const {
    return beginning_.count(segment) != 0 || open_.count(segment) != 0;
  }
  // Durably, if the copy has none; gives whether it had.
  Task<Result<bool>> make_folder(unsigned copy);
  Task<Result<void>> flush_copy(unsigned copy);

 private:
  // One step on several copies at once. Shared, because a copy that stalls reports when it likes.
  struct Outcome {
    explicit Outcome(Ring& ring) : finished(ring) {}
    ReplicaMask tried = 0;
    ReplicaMask succeeded = 0;
    std::array<std::optional<Error>, kReplicaCount> errors;
    unsigned under_way = 0;
    bool given_up = false;  // on those under way
    // What waits for a fault, so that whoever gives up can let its memory go.
    std::array<std::shared_ptr<const AppendData>, kReplicaCount> held;
    Buffer target;          // of a read that has not begun
    std::uint64_t got = 0;  // bytes that it read
    bool may_be_short = false;
    Signal finished;
  };
  using OutcomeRef = std::shared_ptr<Outcome>;
  using DataRef = std::shared_ptr<const AppendData>;
  // What to do on one copy. `data` is null for steps without payload.
  using Step = Task<Result<void>> (LocalSegmentStore::*)(unsigned copy, SegmentSeq segment,
                                                         std::uint32_t block, DataRef data);
  struct OpenSegment {
    // Copies that had the segment when it was begun. One that joins later gets it from resync,
    // never from an append that would find no file.
    ReplicaMask copies = 0;
    std::array<std::uint32_t, kReplicaCount> joins{};  // of each, by then: see copies_of()
    std::uint32_t allocated_blocks = 0;
    std::uint64_t changes = 0;  // writes since it was opened
    std::uint64_t flushed = 0;  // of them, covered by a flush
  };

  std::string folder(unsigned copy) const;
  std::string path(unsigned copy, SegmentSeq segment) const;
  std::string spare_path(unsigned copy, std::uint64_t spare) const;
  ReplicaMask writable() const { return replicas_.in_sync_mask() | replicas_.receiving_mask(); }
  bool has_faults() const { return faults_ != nullptr && faults_->armed(); }
  OpenSegment& opened(SegmentSeq segment);
  std::array<std::uint32_t, kReplicaCount> joins() const;
  // Those that take writes and have had the segment without a break since it was begun. One that
  // fell out and came back, maybe in another folder, gets it from resync.
  ReplicaMask copies_of(SegmentSeq segment);
  Task<Result<FileCache::FileRef>> file(unsigned copy, SegmentSeq segment);

  // Runs `step` on `copies` at once and waits for at most stall_max.
  Task<OutcomeRef> on_copies(ReplicaMask copies, Step step, SegmentSeq segment, std::uint32_t block,
                             DataRef data);
  // The step, with what faults do to it.
  Task<Result<void>> faulty_step(OutcomeRef outcome, unsigned copy, Step step, SegmentSeq segment,
                                 std::uint32_t block, DataRef data);
  static Task<void> run_step(std::shared_ptr<LocalSegmentStore> self, OutcomeRef outcome,
                             unsigned copy, Step step, SegmentSeq segment, std::uint32_t block,
                             DataRef data);
  // Drops the copies that failed and answers whether enough are left.
  Task<Result<void>> conclude(OutcomeRef outcome);
  bool full_copies_may_drop(const Outcome& outcome, ReplicaMask full) const;
  Task<Result<void>> make_folder_durable(unsigned copy);
  Task<Result<void>> sync_folder(unsigned copy);
  Task<void> find_device(unsigned copy);
  static void add_segments(const std::vector<std::string>& names,
                           std::vector<SegmentSeq>& segments);

  Task<Result<void>> create_on(unsigned copy, SegmentSeq segment, std::uint32_t spare,
                               DataRef data);
  Task<Result<void>> allocate_on(unsigned copy, SegmentSeq segment, std::uint32_t end,
                                 DataRef data);
  Task<Result<void>> append_on(unsigned copy, SegmentSeq segment, std::uint32_t block,
                               DataRef data);
  Task<Result<void>> find_on(unsigned copy, SegmentSeq segment, std::uint32_t block, DataRef data);
  Task<Result<void>> flush_on(unsigned copy, SegmentSeq segment, std::uint32_t block, DataRef data);
  Task<Result<void>> remove_on(unsigned copy, SegmentSeq segment, std::uint32_t spare,
                               DataRef data);
  Task<Result<void>> release_on(unsigned copy, SegmentSeq segment, std::uint32_t spare,
                                DataRef data);
  static Task<void> read_into(std::shared_ptr<LocalSegmentStore> self, OutcomeRef outcome,
                              unsigned copy, SegmentSeq segment, std::uint32_t block);

  Ring& ring_;
  ReplicaSet& replicas_;
  FileCache& files_;
  std::string disk_id_;
  Options options_;
  std::uint32_t owner_;  // in the file cache
  struct Listing {
    ReplicaMask copies = 0;  // those that were asked
    std::array<std::uint32_t, kReplicaCount> joins{};
    std::vector<SegmentSeq> segments;
  };
  std::optional<Listing> listing_;
  bool was_there_ = false;
  std::array<std::set<SegmentSeq>, kReplicaCount> flush_failed_;  // until the file is made anew
  std::array<bool, kReplicaCount> distrusts_former_{};  // until distrust_former() was called
  std::set<SegmentSeq> beginning_;                      // in create()
  std::map<SegmentSeq, OpenSegment> open_;              // written to of late
  std::map<std::uint32_t, ReplicaMask> spares_;
  std::uint32_t next_spare_ = 1;
  std::array<std::uint64_t, kReplicaCount> under_way_{};
  Signal idle_;
  std::unique_ptr<FaultPlan> faults_;  // null: there never was one
};

}  // namespace clouddisk
