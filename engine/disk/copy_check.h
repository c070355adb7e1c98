// copy_check.h: whether one copy of a segment is, byte by byte, what it has to be, and what to
// put where it is not. What resync and scrub are made of.
//
// Everything in a segment is bound to what follows it: a descriptor covers the checksums of its
// payload and names its parent, the last one is named by the footer and by the next segment. So a
// copy can be judged by reading it alone, once; only where that fails are others read, block by
// block. Nothing is believed: what is written anywhere was checked first.
//
// Thread: the disk's ring. The segment must not be removed meanwhile (Disk::pin_segment(),
//   Disk::hold_segments()). Only what is before the end that was learned is looked at or written:
//   what is appended meanwhile lies behind it.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "engine/log/local_segment_store.h"
#include "engine/log/segment_format.h"
#include "engine/log/segment_reader.h"

namespace clouddisk {

// What background work on copies asks after each piece. Thread: the ring of the work.
class WorkPace {
 public:
  virtual ~WorkPace() = default;
  // So many bytes of media were read (or written): returns when the next piece may begin.
  virtual Task<void> spent(std::uint64_t bytes) = 0;
  virtual bool stopped() const { return false; }  // give up with kShutdown
};

class FullSpeed final : public WorkPace {
 public:
  Task<void> spent(std::uint64_t) override { co_return; }
};

// What the check of one copy came to, in blocks of 4 KiB.
struct CopyFindings {
  std::uint64_t bad_blocks = 0;     // unreadable, missing or not what they have to be
  std::uint64_t mended_blocks = 0;  // of them, replaced by what they have to be
  std::vector<std::uint32_t> lost;  // the rest: no other copy has them intact either; ascending
};

class CopyCheck {
 public:
  CopyCheck(LocalSegmentStore& store, BufferPool& pool, DiskTag disk, SegmentSeq segment)
      : store_(store), pool_(pool), disk_(disk), segment_(segment) {}

  // Learns from the copies in sync what the segment has to hold (copy_learn.cc). `cut`: where its
  // batches end; without it, where they end by themselves. `complete`: it may be sealed, and
  // nothing writes to it any more. Damage is no error: what is damaged on every copy is left out of
  // what is known, see untold().
  Task<Result<void>> learn(SegmentCut cut, bool complete);
  // After learn(): some of it is damaged on every copy so that it can't be told what it was.
  bool untold() const { return untold_; }
  // After learn(): no batch was ever written to it. It was made ahead, or a crash took its header
  // before anything relied on it.
  bool begun() const { return begun_; }

  // Reads one copy alone, once. False: something is wrong, or it could not be read.
  Task<Result<bool>> intact(unsigned copy, WorkPace& pace);

  // How mend() writes: into a copy that is in sync, durably, or into one that joins.
  enum class Target { kMember, kJoiner };
  // Compares one copy block by block with what it has to be, and replaces what differs by what a
  // copy in sync has intact. A joiner that lacks a block that nobody has intact gets it as it is:
  // reading it stays an error, on every copy alike. An error: the copy could not be written.
  Task<Result<CopyFindings>> mend(unsigned copy, Target target, WorkPace& pace);
  // Of a joiner, and a segment that is not sealed: what stands on it behind the end is of a former
  // life, and must not be taken for the continuation. One block of it is enough.
  Task<Result<void>> cut_joiner(unsigned copy);
  // The same of a trailer, of a segment that is not sealed.
  Task<Result<void>> unseal_joiner(unsigned copy);

  // After learn(): where batches end, and everything in them.
  const Footer& contents() const { return contents_; }

 private:
  struct Window {
    Buffer data;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  struct Piece {
    Buffer data;
    std::vector<bool> readable;
  };

  bool in_sync(unsigned copy) const { return (store_.readable() >> copy & 1U) != 0; }
  Task<Result<void>> gather(SegmentCut cut);
  Task<Result<SegmentHeader>> read_header();
  Task<bool> some_header_is_unread();
  Task<std::optional<Batch>> find_batch(SegmentReader& reader, const LogPosition& position,
                                        bool chained);
  void take(const Batch& batch);
  Task<Result<std::span<const std::byte>>> view(Window& window, unsigned copy, std::uint32_t block,
                                                std::uint32_t count, WorkPace& pace);
  Task<Result<bool>> equals(unsigned copy, std::uint32_t block, std::span<const std::byte> expected,
                            WorkPace& pace);
  Task<void> learn_descriptors();
  void expect(std::uint32_t first, std::span<const std::byte> blocks);
  Task<Result<Piece>> read_piece(unsigned copy, std::uint32_t first, std::uint32_t count);
  std::vector<bool> judge(std::uint32_t first, const Piece& piece) const;
  Task<Piece> good_piece(unsigned except, std::uint32_t first, std::uint32_t count);
  Task<Result<void>> mend_piece(unsigned copy, Target target, std::uint32_t first,
                                std::uint32_t count, CopyFindings& findings);
  Task<Result<void>> write_run(unsigned copy, Target target, std::uint32_t first, Buffer run);
  Task<Result<bool>> make_present(unsigned copy, Target target);

  LocalSegmentStore& store_;
  BufferPool& pool_;
  DiskTag disk_;
  SegmentSeq segment_;
  bool complete_ = false;
  bool untold_ = false;
  bool begun_ = true;
  bool header_unread_ = false;
  std::optional<SegmentHeader> header_;
  std::optional<Trailer> trailer_;  // it is sealed
  Footer contents_;
  std::vector<std::byte> header_block_;   // empty: unknown
  std::vector<std::byte> footer_blocks_;  // empty: there is none, or unknown
  std::vector<std::byte> trailer_block_;
  std::vector<std::uint64_t> checksums_;        // of blocks whose content is known
  std::vector<bool> checked_;                   // which blocks those are
  std::map<std::uint32_t, Batch> descriptors_;  // by block: learned when a copy has to be mended
  bool descriptors_learned_ = false;
};

}  // namespace clouddisk
