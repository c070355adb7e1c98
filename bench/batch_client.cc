#include "bench/batch_client.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "bench/export_client.h"
#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "nbd/protocol.h"

namespace clouddisk::bench {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kReplySize = 16;
constexpr std::size_t kReceiveSize = 512U << 10;  // fits in a processor's second-level cache
constexpr std::size_t kPoolSize = 4U << 20;       // random content that writes take pieces of
constexpr std::chrono::seconds kPatience{30};     // for the answers after the end

TimePoint now() {
  return steady_clock::now();
}

// What the connections of one run share.
struct Run {
  const BatchOptions& options;
  std::uint64_t blocks;  // of block_bytes, in the span
  Random random;
  std::vector<std::byte> pool;
  std::vector<std::byte> received;
  BatchReport report;
  bool ending = false;  // nothing new is asked or counted
};

// One connection: slots, each an operation in flight; those that may go on wait in `ready_`.
class Connection {
 public:
  Connection(Run& run, OpenExport opened)
      : run_(run), export_(std::move(opened)), slots_(run.options.depth) {
    for (std::uint32_t slot = 0; slot < run.options.depth; ++slot) ready_.push_back(slot);
  }

  int socket() const { return export_.socket.get(); }
  bool wants_to_send() const { return next_ < pieces_.size(); }
  bool idle() const { return in_flight_ == 0 && !wants_to_send(); }

  // One send of everything that is ready.
  Result<void> send() {
    if (!wants_to_send()) gather();
    if (!wants_to_send()) return {};
    msghdr message{};
    message.msg_iov = pieces_.data() + next_;
    message.msg_iovlen = pieces_.size() - next_;
    const ssize_t sent = ::sendmsg(socket(), &message, MSG_NOSIGNAL);
    ++run_.report.sends;
    if (sent < 0) {
      if (errno == EAGAIN || errno == EINTR) return {};
      return fail_errno(errno, "sending requests");
    }
    auto left = static_cast<std::size_t>(sent);
    while (next_ < pieces_.size() && left >= pieces_[next_].iov_len) {
      left -= pieces_[next_++].iov_len;
    }
    if (left > 0) {
      iovec& piece = pieces_[next_];
      piece.iov_base = static_cast<std::byte*>(piece.iov_base) + left;
      piece.iov_len -= left;
    }
    return {};
  }

  // One receive of what is there.
  Result<void> receive() {
    const ssize_t got = ::recv(socket(), run_.received.data(), run_.received.size(), 0);
    ++run_.report.receives;
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) return {};
      return fail_errno(errno, "receiving answers");
    }
    if (got == 0) return fail(Errc::kIo, "the server left");
    return take(std::span<const std::byte>(run_.received).first(static_cast<std::size_t>(got)));
  }

  void say_goodbye() {
    std::array<std::byte, nbd::kRequestSize> bytes;
    encode(bytes, nbd::Command::kDisconnect, 0, 0, 0, 0);
    static_cast<void>(::send(socket(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
  }

 private:
  struct Slot {
    TimePoint began;
    bool busy = false;
    bool flushing = false;
  };

  static void encode(std::span<std::byte> into, nbd::Command command, std::uint16_t flags,
                     std::uint64_t cookie, std::uint64_t offset, std::uint32_t length) {
    ByteWriter out(into);
    out.be(nbd::kRequestMagic);
    out.be(flags);
    out.be(static_cast<std::uint16_t>(command));
    out.be(cookie);
    out.be(offset);
    out.be(length);
  }

  void gather() {
    pieces_.clear();
    next_ = 0;
    // A write is two pieces; what does not fit into one send waits for the next.
    const std::size_t count = std::min<std::size_t>(ready_.size(), IOV_MAX / 2);
    heads_.resize(count * nbd::kRequestSize);
    const TimePoint at = now();
    for (std::size_t index = 0; index < count; ++index) {
      const auto head = std::span(heads_).subspan(index * nbd::kRequestSize, nbd::kRequestSize);
      add_piece(head);
      start(ready_[index], head, at);
    }
    ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(count));
    in_flight_ += count;
  }

  void start(std::uint32_t number, std::span<std::byte> head, TimePoint at) {
    const BatchOptions& options = run_.options;
    Slot& slot = slots_[number];
    slot.busy = true;
    if (slot.flushing) {
      encode(head, nbd::Command::kFlush, 0, number, 0, 0);
      return;
    }
    slot.began = at;
    const bool writes = options.load == BatchOptions::Load::kWrite;
    const std::uint16_t flags = writes && options.fua ? nbd::kFlagFua : std::uint16_t{0};
    encode(head, writes ? nbd::Command::kWrite : nbd::Command::kRead, flags, number,
           run_.random.below(run_.blocks) * options.block_bytes, options.block_bytes);
    if (!writes) return;
    const std::size_t places = (run_.pool.size() - options.block_bytes) / 512 + 1;
    const std::size_t from = run_.random.below(places) * 512;
    add_piece(std::span(run_.pool).subspan(from, options.block_bytes));
  }

  // Neighbours in memory are one piece: reads leave as one string of requests.
  void add_piece(std::span<std::byte> bytes) {
    if (!pieces_.empty()) {
      iovec& last = pieces_.back();
      if (static_cast<std::byte*>(last.iov_base) + last.iov_len == bytes.data()) {
        last.iov_len += bytes.size();
        return;
      }
    }
    pieces_.push_back({bytes.data(), bytes.size()});
  }

  Result<void> take(std::span<const std::byte> bytes) {
    const TimePoint at = now();
    while (!bytes.empty()) {
      if (payload_left_ > 0) {
        const auto skipped = std::min<std::size_t>(payload_left_, bytes.size());
        payload_left_ -= skipped;
        bytes = bytes.subspan(skipped);
        if (payload_left_ == 0) complete(answered_, at);
        continue;
      }
      const auto taken = std::min(kReplySize - head_size_, bytes.size());
      std::memcpy(head_.data() + head_size_, bytes.data(), taken);
      head_size_ += taken;
      bytes = bytes.subspan(taken);
      if (head_size_ < kReplySize) break;
      head_size_ = 0;
      if (auto answered = answer(at); !answered) return answered;
    }
    return {};
  }

  // A whole head of a reply is there.
  Result<void> answer(TimePoint at) {
    ByteReader in(head_);
    const auto magic = in.be<std::uint32_t>();
    const auto error = in.be<std::uint32_t>();
    const auto cookie = in.be<std::uint64_t>();
    if (magic != nbd::kSimpleReplyMagic || cookie >= slots_.size() || !slots_[cookie].busy) {
      return fail(Errc::kCorrupt, "an answer is not one to what was asked (magic {:#x}, cookie {})",
                  magic, cookie);
    }
    if (error != 0) return fail(Errc::kIo, "the server answered with NBD error {}", error);
    answered_ = static_cast<std::uint32_t>(cookie);
    if (run_.options.load == BatchOptions::Load::kRead) {
      payload_left_ = run_.options.block_bytes;
    } else {
      complete(answered_, at);
    }
    return {};
  }

  void complete(std::uint32_t number, TimePoint at) {
    Slot& slot = slots_[number];
    slot.busy = false;
    --in_flight_;
    if (run_.options.flush_each && !slot.flushing) {
      slot.flushing = true;
      if (!run_.ending) ready_.push_back(number);
      return;
    }
    slot.flushing = false;
    if (run_.ending) return;
    ++run_.report.operations;
    run_.report.latency.add(static_cast<std::uint64_t>((at - slot.began).count()));
    ready_.push_back(number);
  }

  Run& run_;
  OpenExport export_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> ready_;
  std::size_t in_flight_ = 0;  // requests

  std::vector<std::byte> heads_;  // of the send under way
  std::vector<iovec> pieces_;     // those before next_ are gone
  std::size_t next_ = 0;

  std::array<std::byte, kReplySize> head_{};  // of the reply under way
  std::size_t head_size_ = 0;
  std::size_t payload_left_ = 0;
  std::uint32_t answered_ = 0;
};

using Connections = std::vector<std::unique_ptr<Connection>>;

// What one system call per connection can do, in each direction.
Result<void> turn(Connections& connections, std::vector<pollfd>& waiting, bool ending) {
  for (std::size_t index = 0; index < connections.size(); ++index) {
    const bool sends = connections[index]->wants_to_send();
    waiting[index] = {connections[index]->socket(),
                      static_cast<short>(sends ? POLLIN | POLLOUT : POLLIN), 0};
  }
  constexpr int kTickMs = 100;  // so that the end is seen when nobody answers
  if (::poll(waiting.data(), waiting.size(), kTickMs) < 0 && errno != EINTR) {
    return fail_errno(errno, "poll");
  }
  for (std::size_t index = 0; index < connections.size(); ++index) {
    Connection& connection = *connections[index];
    if ((waiting[index].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      if (auto received = connection.receive(); !received) return received;
    }
    if (ending && !connection.wants_to_send()) continue;
    if (auto sent = connection.send(); !sent) return sent;
  }
  return {};
}

Result<std::uint64_t> blocks_of(const BatchOptions& options, const OpenExport& opened) {
  const std::uint64_t span = options.span_bytes == 0 ? opened.size_bytes : options.span_bytes;
  if (options.block_bytes == 0 || options.block_bytes > kPoolSize || span < options.block_bytes) {
    return fail(Errc::kInvalid, "blocks of {} bytes: 1 to {} and no more than the span of {}",
                options.block_bytes, kPoolSize, span);
  }
  if (span > opened.size_bytes) {
    return fail(Errc::kInvalid, "a span of {} bytes, but the export has {}", span,
                opened.size_bytes);
  }
  const bool writes = options.load == BatchOptions::Load::kWrite;
  if (writes && (opened.flags & nbd::kReadOnly) != 0) {
    return fail(Errc::kInvalid, "the export is read-only");
  }
  if (options.fua && (opened.flags & nbd::kSendFua) == 0) {
    return fail(Errc::kInvalid, "the export takes no FUA");
  }
  if (options.flush_each && (opened.flags & nbd::kSendFlush) == 0) {
    return fail(Errc::kInvalid, "the export takes no flush");
  }
  return span / options.block_bytes;
}

}  // namespace

Result<BatchReport> run_batch(const BatchOptions& options) {
  if (options.connections == 0 || options.depth == 0) {
    return fail(Errc::kInvalid, "at least one connection and one operation in flight");
  }
  if (options.load == BatchOptions::Load::kRead && (options.fua || options.flush_each)) {
    return fail(Errc::kInvalid, "FUA and flushes are for writes");
  }
  Run run{options,
          0,
          Random(options.seed),
          std::vector<std::byte>(kPoolSize),
          std::vector<std::byte>(kReceiveSize),
          {}};
  ByteWriter pool(run.pool);
  while (pool.position() < kPoolSize) pool.le(run.random.next());
  Connections connections;
  for (unsigned count = 0; count < options.connections; ++count) {
    auto opened = open_export(options.socket_path, options.export_name);
    if (!opened) return opened.error();
    auto blocks = blocks_of(options, *opened);
    if (!blocks) return blocks.error();
    run.blocks = *blocks;
    ::fcntl(opened->socket.get(), F_SETFL, O_NONBLOCK);
    connections.push_back(std::make_unique<Connection>(run, std::move(*opened)));
  }
  std::vector<pollfd> waiting(connections.size());
  const TimePoint began = now();
  const TimePoint end =
      began + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options.seconds));
  for (auto& connection : connections) {
    if (auto sent = connection->send(); !sent) return sent.error();
  }
  // A busy host may not answer anything in a short time; there is no figure of nothing.
  while (now() < end || (run.report.operations == 0 && now() < end + kPatience)) {
    if (auto turned = turn(connections, waiting, false); !turned) return turned.error();
  }
  run.report.seconds = std::chrono::duration<double>(now() - began).count();
  run.ending = true;
  const TimePoint patience_ends = now() + kPatience;
  const auto all_idle = [&connections] {
    for (const auto& connection : connections) {
      if (!connection->idle()) return false;
    }
    return true;
  };
  while (!all_idle()) {
    if (now() > patience_ends) {
      return fail(Errc::kTimedOut, "answers are missing {} s after the end", kPatience.count());
    }
    if (auto turned = turn(connections, waiting, true); !turned) return turned.error();
  }
  for (auto& connection : connections) connection->say_goodbye();
  return std::move(run.report);
}

}  // namespace clouddisk::bench
