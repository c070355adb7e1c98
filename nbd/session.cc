#include "nbd/session.h"

#include <algorithm>
#include <cstring>

namespace clouddisk::nbd {
namespace {

constexpr std::uint32_t kPiece = BlockDevice::kTransferMax;
constexpr std::size_t kSendPiecesMax = 256;

}  // namespace

// A write that is longer than the device takes at once: answered when its last part has ended.
struct Session::SplitWrite {
  std::uint64_t parts_left = 0;
  Result<void> result;
};

Session::Session(BlockDevice& device, std::unique_ptr<Stream> stream, Agreement agreement,
                 Counters& counters)
    : device_(device),
      stream_(std::move(stream)),
      agreement_(std::move(agreement)),
      counters_(counters),
      ring_(device.ring()),
      received_(kReceiveBuffer),
      requests_(ring_, kRequestsMax),
      bytes_(ring_, kBytesMax),
      outgoing_changed_(ring_),
      under_way_(ring_),
      sender_(ring_) {
  stream_->move_to(ring_);
}

Session::~Session() = default;

Task<Result<void>> Session::run() {
  sender_.add();
  spawn(send_replies());
  auto ended = co_await receive_requests();
  co_await under_way_.wait();
  finished_ = true;
  outgoing_changed_.wake_all();
  co_await sender_.wait();
  co_return ended;
}

// --- Receiving ---

// At least `needed` bytes to parse; false when the client left.
Task<bool> Session::fill(std::size_t needed) {
  while (end_ - begin_ < needed) {
    if (received_.size() - begin_ < needed || begin_ == end_) {
      std::memmove(received_.data(), received_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    const int got = co_await stream_->receive(std::span(received_).subspan(end_));
    if (got <= 0) co_return false;
    counters_.bytes_received.fetch_add(static_cast<std::uint64_t>(got), std::memory_order_relaxed);
    end_ += static_cast<std::size_t>(got);
  }
  co_return true;
}

Task<Result<void>> Session::receive_requests() {
  const bool extended = agreement_.framing == Framing::kExtended;
  const std::size_t size = extended ? kExtendedRequestSize : kRequestSize;
  while (!broken_) {
    if (!co_await fill(size)) co_return Result<void>{};
    auto request = decode_request(std::span(received_).subspan(begin_, size), extended);
    if (!request) co_return request.error();
    begin_ += size;
    if (request->command == Command::kDisconnect) co_return Result<void>{};
    counters_.requests.fetch_add(1, std::memory_order_relaxed);
    if (!requests_.try_acquire(1)) co_await requests_.acquire(1);
    auto went_on = co_await dispatch(*request);
    if (!went_on) co_return went_on.error();
    if (!*went_on) co_return Result<void>{};
  }
  co_return Result<void>{};
}

// False: the client left in the middle.
Task<Result<bool>> Session::dispatch(const Request& request) {
  const bool extended = agreement_.framing == Framing::kExtended;
  const std::uint64_t payload = payload_length(request, extended);
  if (payload > kPayloadMax) {
    co_return fail(Errc::kInvalid, "a payload of {} bytes, {} are allowed", payload, kPayloadMax);
  }
  const WireError wrong = check_request(request, device_.size_bytes(), device_.read_only());
  if (wrong != WireError::kNone) {
    const bool there = co_await discard_payload(payload);
    answer(request, wrong, 0);
    co_return there;
  }
  if (request.command == Command::kWrite) co_return co_await dispatch_write(request);
  under_way_.add();
  spawn(serve(request));
  co_return true;
}

Task<Result<bool>> Session::dispatch_write(const Request& request) {
  auto whole = std::make_shared<SplitWrite>();
  whole->parts_left = (request.length + kPiece - 1) / kPiece;
  under_way_.add(whole->parts_left);
  std::uint64_t done = 0;
  while (done < request.length) {
    const std::uint64_t count = std::min<std::uint64_t>(kPiece, request.length - done);
    co_await hold(count);
    auto payload = co_await take_payload(count);
    if (!payload) {
      // What came is written; the rest never will be, and there is nobody left to tell.
      bytes_.release(count);
      const std::uint64_t missing = (request.length - done + kPiece - 1) / kPiece;
      for (std::uint64_t i = 0; i < missing; ++i) under_way_.done();
      co_return false;
    }
    spawn(write(request, std::move(*payload), request.offset + done, whole));
    done += count;
  }
  co_return true;
}

Task<Result<Buffer>> Session::take_payload(std::uint64_t length) {
  Buffer buffer = co_await device_.buffers().allocate(length);
  const std::size_t here = std::min<std::size_t>(length, end_ - begin_);
  std::memcpy(buffer.data(), received_.data() + begin_, here);
  begin_ += here;
  std::size_t have = here;
  while (have < length) {
    const int got = co_await stream_->receive(buffer.span().subspan(have));
    if (got <= 0) co_return fail(Errc::kShutdown, "the client left in the middle of a write");
    counters_.bytes_received.fetch_add(static_cast<std::uint64_t>(got), std::memory_order_relaxed);
    have += static_cast<std::size_t>(got);
  }
  co_return buffer;
}

Task<bool> Session::discard_payload(std::uint64_t length) {
  while (length > 0) {
    if (!co_await fill(1)) co_return false;
    const std::uint64_t count = std::min<std::uint64_t>(length, end_ - begin_);
    begin_ += count;
    length -= count;
  }
  co_return true;
}

Task<void> Session::hold(std::uint64_t bytes) {
  if (!bytes_.try_acquire(bytes)) co_await bytes_.acquire(bytes);
}

// --- Requests ---

Task<void> Session::serve(Request request) {
  Result<void> result;
  switch (request.command) {
    case Command::kRead:
      if (agreement_.framing == Framing::kSimple && request.length > kPiece) {
        co_await read_simple(request);
      } else {
        co_await read(request);
      }
      under_way_.done();
      co_return;
    case Command::kBlockStatus:
      co_await block_status(request);
      under_way_.done();
      co_return;
    case Command::kFlush:
      result = co_await device_.flush();
      break;
    case Command::kTrim:
      result =
          co_await device_.trim(request.offset, request.length, (request.flags & kFlagFua) != 0);
      break;
    case Command::kWriteZeroes: {
      ZeroOptions options;
      options.fua = (request.flags & kFlagFua) != 0;
      options.no_hole = (request.flags & kFlagNoHole) != 0;
      result = co_await device_.write_zeroes(request.offset, request.length, options);
      break;
    }
    case Command::kCache:
      result = co_await device_.prefetch(request.offset, request.length);
      break;
    case Command::kWrite:
    case Command::kDisconnect:
      break;
  }
  answer(request, result, 0);
  under_way_.done();
}

Task<void> Session::write(Request request, Buffer data, std::uint64_t offset,
                          std::shared_ptr<SplitWrite> whole) {
  const std::uint64_t size = data.size();
  auto result = co_await device_.write(offset, std::move(data), (request.flags & kFlagFua) != 0);
  if (!result) whole->result = result;
  if (--whole->parts_left == 0) {
    answer(request, whole->result, size);
  } else {
    bytes_.release(size);
  }
  under_way_.done();
}

// With structured replies a long read goes out piece by piece, and an error may end it in the
// middle.
Task<void> Session::read(Request request) {
  if ((request.flags & kFlagDf) != 0 && request.length > kPiece) {
    answer(request, WireError::kOverflow, 0);
    co_return;
  }
  std::uint64_t done = 0;
  while (done < request.length) {
    const auto count =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kPiece, request.length - done));
    co_await hold(count);
    const std::uint64_t offset = request.offset + done;
    auto data = co_await device_.read(offset, count);
    if (!data) {
      answer(request, wire_error(data.error().code), count);
      co_return;
    }
    done += count;
    Outgoing outgoing;
    outgoing.ends_request = done == request.length;
    outgoing.head =
        encode_data_head(agreement_.framing, request, offset, count, outgoing.ends_request);
    outgoing.data = std::move(*data);
    outgoing.held_bytes = count;
    post(std::move(outgoing));
  }
}

// A simple reply promises success before its data, so all of it must be here first.
Task<void> Session::read_simple(Request request) {
  std::vector<std::byte> all(request.length);
  co_await hold(request.length);
  for (std::uint64_t done = 0; done < request.length;) {
    const auto count =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kPiece, request.length - done));
    auto data = co_await device_.read(request.offset + done, count);
    if (!data) {
      answer(request, wire_error(data.error().code), request.length);
      co_return;
    }
    std::memcpy(all.data() + done, data->data(), count);
    done += count;
  }
  Outgoing outgoing;
  outgoing.head = encode_data_head(Framing::kSimple, request, request.offset, 0, true);
  outgoing.extra = std::move(all);
  outgoing.held_bytes = request.length;
  outgoing.ends_request = true;
  post(std::move(outgoing));
}

Task<void> Session::block_status(Request request) {
  if (!agreement_.allocation_context) {
    answer(request, WireError::kInvalid, 0);
    co_return;
  }
  constexpr std::uint32_t kExtentsMax = 1024;
  const bool one = (request.flags & kFlagReqOne) != 0;
  auto extents = co_await device_.extents(request.offset, request.length, one ? 1 : kExtentsMax);
  if (!extents) {
    answer(request, wire_error(extents.error().code), 0);
    co_return;
  }
  // A 32-bit reply can't go on behind an extent that it had to shorten.
  if (agreement_.framing != Framing::kExtended) {
    const auto wide = std::find_if(extents->begin(), extents->end(),
                                   [](const Extent& e) { return e.length > 0xffffffffU; });
    if (wide != extents->end()) extents->erase(wide + 1, extents->end());
  }
  Outgoing outgoing;
  outgoing.extra = encode_block_status(agreement_.framing, request, kAllocationId, *extents);
  outgoing.ends_request = true;
  post(std::move(outgoing));
}

// --- Answering ---

void Session::answer(const Request& request, const Result<void>& result, std::uint64_t held_bytes) {
  answer(request, result ? WireError::kNone : wire_error(result.error().code), held_bytes);
}

void Session::answer(const Request& request, WireError error, std::uint64_t held_bytes) {
  if (error != WireError::kNone) counters_.errors.fetch_add(1, std::memory_order_relaxed);
  Outgoing outgoing;
  outgoing.head = encode_status(agreement_.framing, request, error);
  outgoing.held_bytes = held_bytes;
  outgoing.ends_request = true;
  post(std::move(outgoing));
}

void Session::post(Outgoing outgoing) {
  outgoing_.push_back(std::move(outgoing));
  outgoing_changed_.wake_all();
}

Task<void> Session::send_replies() {
  std::vector<Outgoing> batch;
  std::vector<iovec> pieces;
  while (true) {
    if (outgoing_.empty()) {
      if (finished_) break;
      co_await outgoing_changed_.wait();
      continue;
    }
    batch.clear();
    pieces.clear();
    while (!outgoing_.empty() && batch.size() * 3 < kSendPiecesMax) {
      batch.push_back(std::move(outgoing_.front()));
      outgoing_.pop_front();
    }
    std::uint64_t size = 0;
    const auto add = [&pieces, &size](const std::byte* data, std::size_t length) {
      if (length == 0) return;
      pieces.push_back({const_cast<std::byte*>(data), length});
      size += length;
    };
    std::uint64_t held = 0;
    std::uint64_t requests = 0;
    for (const Outgoing& one : batch) {
      add(one.head.bytes.data(), one.head.size);
      add(one.extra.data(), one.extra.size());
      add(one.data.data(), one.data.size());
      held += one.held_bytes;
      if (one.ends_request) ++requests;
    }
    // Once the connection is broken, answers only give back what they hold.
    if (!broken_) {
      const bool sent = co_await stream_->send(pieces);
      if (!sent) broken_ = true;
    }
    counters_.bytes_sent.fetch_add(size, std::memory_order_relaxed);
    batch.clear();
    if (held > 0) bytes_.release(held);
    if (requests > 0) requests_.release(requests);
  }
  sender_.done();
}

}  // namespace clouddisk::nbd
