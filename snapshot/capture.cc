#include "snapshot/capture.h"

#include <algorithm>
#include <deque>
#include <memory>

#include "snapshot/page_capture.h"

namespace clouddisk::snapshot {
namespace {

// A step is one flush of the pack and one commit of the index. It ends at either bound: memory for
// whole pages, and what a crash repeats for those of which a block or two changed.
constexpr std::size_t kBytesPerStep = 16_MiB;
constexpr std::size_t kPagesPerStep = 256;
// Pages are looked up and read in groups, of which some are in work while no client of the disk
// waits: beside those that are read, others are compressed. Fewer where whole pages changed, since
// a group then takes 8 MiB of memory.
constexpr std::size_t kPagesPerGroup = 8;
constexpr std::size_t kSparseGroupsAhead = 12;
constexpr std::size_t kDenseGroupsAhead = 3;
constexpr std::size_t kSparseGroupBytes = 512_KiB;

// Groups in work, in their order.
class ReadAhead {
 public:
  ReadAhead(Ring& ring, PageCapture& work, const std::vector<std::uint64_t>& pages)
      : work_(work), pages_(pages), arrived_(ring) {}

  struct Group {
    std::size_t end = 0;  // in the list of pages
    std::optional<Result<PageCapture::Changes>> changes;
  };
  // Nothing may be in work.
  void begin_at(std::size_t index) { next_ = index; }
  // The next group, with up to `ahead` in work, it among them. There is one.
  Task<std::unique_ptr<Group>> next(std::size_t ahead) {
    while (next_ < pages_.size() && groups_.size() < ahead) {
      const std::size_t begin = next_;
      next_ = std::min(pages_.size(), begin + kPagesPerGroup);
      groups_.push_back(std::make_unique<Group>());
      groups_.back()->end = next_;
      const auto at = [this](std::size_t i) {
        return pages_.begin() + static_cast<std::ptrdiff_t>(i);
      };
      spawn(fill(*groups_.back(), std::vector(at(begin), at(next_))));
    }
    std::unique_ptr<Group> first = std::move(groups_.front());
    groups_.pop_front();
    while (!first->changes) co_await arrived_.wait();
    co_return first;
  }
  Task<void> stop() {
    for (const auto& group : groups_) {
      while (!group->changes) co_await arrived_.wait();
    }
    groups_.clear();
  }

 private:
  Task<void> fill(Group& group, std::vector<std::uint64_t> pages) {
    group.changes.emplace(co_await work_.changes(std::move(pages)));
    arrived_.wake_all();
  }

  PageCapture& work_;
  const std::vector<std::uint64_t>& pages_;
  Signal arrived_;
  std::size_t next_ = 0;
  std::deque<std::unique_ptr<Group>> groups_;
};

// One step stored while the next is gathered.
class Pipeline {
 public:
  Pipeline(Disk& disk, Chain& chain, const CaptureSpec& spec,
           const std::vector<std::uint64_t>& pages, std::function<bool()> cancelled,
           std::function<void(const CaptureProgress&)> progress)
      : disk_(disk),
        chain_(chain),
        spec_(spec),
        pages_(pages),
        cancelled_(std::move(cancelled)),
        progress_(std::move(progress)),
        work_(disk, chain, spec),
        ahead_(disk.ring(), work_, pages),
        pace_(spec.pace),
        storing_(disk.ring()) {}

  // From where `known` ends. After it, whatever it says: settle().
  Task<Result<CaptureCursor>> run(std::optional<CaptureCursor> known);
  Task<void> settle() {
    co_await ahead_.stop();
    co_await storing_.wait();
  }

 private:
  struct Step {
    std::vector<Chain::ChangedPage> pages;
    std::size_t bytes = 0;  // of the disk
    std::uint64_t next_page = 0;
    bool full() const { return pages.size() >= kPagesPerStep || bytes >= kBytesPerStep; }
  };
  void begin_at(const CaptureCursor& cursor);
  std::size_t groups_ahead() const {
    if (pace_.rate() < spec_.pace.most) return 1;
    return group_bytes_ <= kSparseGroupBytes ? kSparseGroupsAhead : kDenseGroupsAhead;
  }
  Task<Result<Step>> gather();
  Task<void> store(Step step);
  // Whether the index is still the one that the cursor is of.
  Task<Result<bool>> stored();

  Disk& disk_;
  Chain& chain_;
  const CaptureSpec& spec_;
  const std::vector<std::uint64_t>& pages_;
  std::function<bool()> cancelled_;
  std::function<void(const CaptureProgress&)> progress_;
  PageCapture work_;
  ReadAhead ahead_;
  Pace pace_;
  CaptureCursor cursor_;                             // of what is stored
  std::uint64_t booked_ = 0;                         // bytes read of which the pace knows
  std::size_t at_ = 0;                               // in pages_: gathered next
  std::size_t group_bytes_ = 2 * kSparseGroupBytes;  // of the last one
  WaitGroup storing_;
  Result<CaptureCursor> outcome_ = CaptureCursor();  // of the step stored last
};

void Pipeline::begin_at(const CaptureCursor& cursor) {
  cursor_ = cursor;
  outcome_ = cursor;
  const auto next = std::lower_bound(pages_.begin(), pages_.end(), cursor.next_page);
  at_ = static_cast<std::size_t>(next - pages_.begin());
  ahead_.begin_at(at_);
}

Task<Result<Pipeline::Step>> Pipeline::gather() {
  Step step;
  while (at_ < pages_.size() && !step.full()) {
    if (cancelled_()) co_return fail(Errc::kShutdown, "the capture goes on at the next start");
    const auto group = co_await ahead_.next(groups_ahead());
    if (!*group->changes) co_return group->changes->error();
    at_ = group->end;
    step.next_page = pages_[at_ - 1] + 1;
    group_bytes_ = 0;
    for (Chain::ChangedPage& page : **group->changes) {
      group_bytes_ += page.changed.size() * kBlockSize;
      step.pages.push_back(std::move(page));
    }
    step.bytes += group_bytes_;
    progress_({at_, pages_.size()});
    const TimePoint may_go_on =
        pace_.book(work_.bytes_read() - booked_, disk_.client_requests(), disk_.ring().now());
    booked_ = work_.bytes_read();
    if (may_go_on > disk_.ring().now()) co_await disk_.ring().sleep_until(may_go_on);
  }
  co_return step;
}

Task<void> Pipeline::store(Step step) {
  CaptureCursor cursor = cursor_;
  cursor.next_page = step.next_page;
  outcome_ = co_await chain_.add(spec_.seq, std::move(step.pages), cursor);
  storing_.done();
}

Task<Result<bool>> Pipeline::stored() {
  co_await storing_.wait();
  if (!outcome_) co_return outcome_.error();
  const bool same = outcome_->heals == cursor_.heals;
  if (same) cursor_ = *outcome_;
  co_return same;
}

Task<Result<CaptureCursor>> Pipeline::run(std::optional<CaptureCursor> known) {
  CaptureCursor anew;
  anew.heals = chain_.heals();
  begin_at(known.value_or(anew));
  while (true) {
    auto step = co_await gather();
    if (!step) co_return step.error();
    const bool last = at_ == pages_.size();
    auto same = co_await stored();
    if (!same) co_return same.error();
    if (*same && !step->pages.empty()) {
      storing_.add();
      spawn(store(std::move(*step)));
      if (last) same = co_await stored();
      if (!same) co_return same.error();
    }
    if (*same && !last) continue;
    if (*same) {
      if (auto tidied = co_await chain_.tidy(spec_.seq); !tidied) co_return tidied.error();
      if (cursor_.heals == chain_.heals()) co_return cursor_;
    }
    // The index was made anew, and may lack what was stored.
    co_await ahead_.stop();
    anew.heals = chain_.heals();
    begin_at(anew);
  }
}

}  // namespace

Task<Result<CaptureCursor>> capture(Disk& disk, Chain& chain, CaptureSpec spec,
                                    std::function<bool()> cancelled,
                                    std::function<void(const CaptureProgress&)> progress) {
  auto pages = co_await PageCapture(disk, chain, spec).pages();
  if (!pages) co_return pages.error();
  auto known = co_await chain.cursor(spec.seq);
  if (!known) co_return known.error();
  Pipeline pipeline(disk, chain, spec, *pages, std::move(cancelled), std::move(progress));
  auto captured = co_await pipeline.run(*known);
  co_await pipeline.settle();
  co_return captured;
}

}  // namespace clouddisk::snapshot
