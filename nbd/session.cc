#include "nbd/session.h"

#include <algorithm>
#include <cstring>

namespace clouddisk::nbd {
namespace {

constexpr std::uint32_t kPiece = BlockDevice::kTransferMax;
constexpr std::uint64_t kPiecesAtOnce = 4;      // of one long read
constexpr std::uint32_t kExtentsMax = 1024;     // in one block status reply
constexpr std::uint64_t kLargeWrite = 256_KiB;  // From here a copy costs more than a receive.
constexpr std::size_t kHeadsOnly = 4_KiB;       // received while writes are large

WireError error_of(const Result<void>& result) {
  return result ? WireError::kNone : wire_error(result.error().code);
}

// Pieces end on blocks, so that neighbours never share one.
std::uint64_t piece_length(std::uint64_t offset, std::uint64_t left) {
  return std::min<std::uint64_t>(kPiece - offset % kBlockSize, left);
}
std::uint64_t piece_count(std::uint64_t offset, std::uint64_t length) {
  std::uint64_t count = 0;
  for (std::uint64_t done = 0; done < length; ++count) {
    done += piece_length(offset + done, length - done);
  }
  return count;
}

}  // namespace

// A write longer than the device takes at once: answered when its last piece has ended.
struct Session::LongWrite {
  std::uint64_t pieces_left = 0;
  WireError error = WireError::kNone;
};

struct Session::LongRead {
  LongRead(Ring& ring, std::unique_ptr<std::byte[]> memory)
      : window(ring, kPiecesAtOnce), pieces(ring), assembled(std::move(memory)) {}
  Semaphore window;
  WaitGroup pieces;
  WireError error = WireError::kNone;
  std::unique_ptr<std::byte[]> assembled;  // null: each piece is sent as it comes
};

Session::Session(Surroundings surroundings, std::unique_ptr<Stream> stream,
                 const Agreement& agreement, std::vector<OpenContext> contexts)
    : device_(surroundings.device),
      stream_(std::move(stream)),
      stop_(surroundings.stop),
      counters_(surroundings.counters),
      framing_(agreement.framing),
      block_size_min_(agreement.knows_block_sizes ? kBlockSizeMin : 1),
      contexts_(std::move(contexts)),
      ring_(device_.ring()),
      received_(new std::byte[kReceiveBuffer]),
      requests_(ring_, kRequestsMax),
      payload_(surroundings.payloads, *stream_),
      assembly_(surroundings.assemblies, *stream_),
      replies_(ring_, *stream_, {payload_, assembly_, requests_, tally_}),
      under_way_(ring_),
      sender_(ring_) {
  stream_->move_to(ring_);
}

Session::~Session() = default;

namespace {

Task<void> run_sender(ReplyQueue& replies, WaitGroup& sender) {
  co_await replies.run();
  sender.done();
}

}  // namespace

Task<Result<void>> Session::run() {
  sender_.add();
  spawn(run_sender(replies_, sender_));
  auto ended = co_await receive_requests();
  co_await under_way_.wait();
  replies_.close();
  co_await sender_.wait();
  if (!replies_.broken()) co_await stream_->finish();
  tally_.publish(counters_);
  if (payload_.evicted() || assembly_.evicted()) {
    counters_.evicted.fetch_add(1, std::memory_order_relaxed);
    co_return fail(Errc::kTimedOut,
                   "the client took no answer or sent no payload while others waited for memory");
  }
  co_return ended;
}

// --- Receiving ---

// At least `needed` bytes to parse; false when the client left.
Task<bool> Session::fill(std::size_t needed) {
  tally_.publish(counters_);
  while (end_ - begin_ < needed) {
    if (begin_ == end_) {
      begin_ = end_ = 0;
    } else if (kReceiveBuffer - begin_ < needed) {
      std::memmove(received_.get(), received_.get() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    std::size_t room = kReceiveBuffer - end_;
    if (large_payloads_) room = std::min(room, kHeadsOnly);
    const int got = co_await stream_->receive(std::span(received_.get() + end_, room));
    if (got <= 0) co_return false;
    tally_.bytes_received += static_cast<std::uint64_t>(got);
    end_ += static_cast<std::size_t>(got);
  }
  co_return true;
}

Task<Result<void>> Session::receive_requests() {
  const std::size_t size = request_size(framing_);
  while (true) {
    if (end_ - begin_ < size) {
      const bool more = co_await fill(size);
      if (!more) co_return Result<void>{};
    }
    if (stop_.load(std::memory_order_relaxed) || replies_.broken()) co_return Result<void>{};
    auto request = decode_request(std::span(received_.get() + begin_, size), framing_);
    if (!request) co_return request.error();
    begin_ += size;
    ++tally_.requests[command_kind(request->command)];
    if (request->command == Command::kDisconnect) co_return Result<void>{};
    if (!requests_.try_acquire(1)) co_await requests_.acquire(1);
    if (begin(*request)) continue;
    auto went_on = co_await begin_waiting(*request);
    if (!went_on) co_return went_on.error();
    if (!*went_on) co_return Result<void>{};
  }
}

RequestRules Session::rules() const {
  return {device_.size_bytes(), device_.read_only(), framing_, block_size_min_};
}

// Begins what needs no waiting; otherwise false, and nothing was done.
bool Session::begin(const Request& request) {
  const std::uint64_t payload = payload_length(request, framing_);
  if (payload > kPayloadMax) return false;
  large_payloads_ = payload >= kLargeWrite;
  const WireError wrong = check_request(request, rules());
  if (wrong != WireError::kNone) {
    if (payload > end_ - begin_) return false;
    begin_ += payload;
    answer(request, wrong);
    return true;
  }
  if (request.command == Command::kWrite) return begin_write(request);
  under_way_.add();
  if (request.command != Command::kRead) {
    spawn(serve(request));
  } else if (request.length <= kPiece) {
    spawn(read(request));
  } else {
    spawn(read_long(request));
  }
  return true;
}

bool Session::begin_write(const Request& request) {
  if (request.length > kPiece || request.length > end_ - begin_) return false;
  const bool fua = (request.flags & kFlagFua) != 0;
  const std::span<const std::byte> payload(received_.get() + begin_, request.length);
  const std::uint64_t held = pool_bytes(request.length);
  if (!payload_.try_acquire(held)) return false;
  if (auto begun = device_.write_now(request.offset, payload, fua)) {
    begin_ += request.length;
    under_way_.add();
    spawn(finish_write(request, std::move(*begun), held));
    return true;
  }
  Buffer data = device_.buffers().try_allocate(request.length);
  if (!data) {
    payload_.release(held);
    return false;
  }
  std::memcpy(data.data(), payload.data(), payload.size());
  begin_ += request.length;
  under_way_.add();
  spawn(write(request, std::move(data), held));
  return true;
}

// The same with waiting: for memory, or for the payload. False: the client left in the middle.
Task<Result<bool>> Session::begin_waiting(const Request& request) {
  const std::uint64_t payload = payload_length(request, framing_);
  if (payload > kPayloadMax) {
    co_return fail(Errc::kInvalid, "a payload of {} bytes, {} are allowed", payload, kPayloadMax);
  }
  const WireError wrong = check_request(request, rules());
  if (wrong != WireError::kNone) {
    const bool there = co_await discard_payload(payload);
    answer(request, wrong);
    co_return there;
  }
  if (request.length > kPiece) co_return co_await begin_long_write(request);
  const std::uint64_t held = pool_bytes(request.length);
  co_await payload_.acquire(held);
  Buffer data = co_await take_payload(request.length);
  if (!data) {
    payload_.release(held);
    co_return false;
  }
  under_way_.add();
  spawn(write(request, std::move(data), held));
  co_return true;
}

// Each piece begins once it is here. When the client leaves in the middle, what came is written
// and nobody is told: the request never was complete.
Task<Result<bool>> Session::begin_long_write(const Request& request) {
  auto whole = std::make_shared<LongWrite>();
  whole->pieces_left = piece_count(request.offset, request.length);
  for (std::uint64_t done = 0; done < request.length;) {
    const std::uint64_t offset = request.offset + done;
    const std::uint64_t length = piece_length(offset, request.length - done);
    const std::uint64_t held = pool_bytes(length);
    co_await payload_.acquire(held);
    Buffer data = co_await take_payload(length);
    if (!data) {
      payload_.release(held);
      co_return false;
    }
    under_way_.add();
    spawn(write_piece(request, offset, std::move(data), held, whole));
    done += length;
  }
  co_return true;
}

// Empty when the client left before all of it came.
Task<Buffer> Session::take_payload(std::uint64_t length) {
  Buffer buffer = device_.buffers().try_allocate(length);
  if (!buffer) buffer = co_await device_.buffers().allocate(length);
  std::size_t have = std::min<std::size_t>(length, end_ - begin_);
  std::memcpy(buffer.data(), received_.get() + begin_, have);
  begin_ += have;
  while (have < length) {
    payload_.client_owes(true);
    const int got = co_await stream_->receive(buffer.span().subspan(have));
    payload_.client_owes(false);
    if (got <= 0) co_return Buffer();
    tally_.bytes_received += static_cast<std::uint64_t>(got);
    have += static_cast<std::size_t>(got);
  }
  co_return buffer;
}

Task<bool> Session::discard_payload(std::uint64_t length) {
  large_payloads_ = false;
  while (length > 0) {
    const bool more = co_await fill(1);
    if (!more) co_return false;
    const std::uint64_t count = std::min<std::uint64_t>(length, end_ - begin_);
    begin_ += count;
    length -= count;
  }
  co_return true;
}

// --- Requests ---

Task<void> Session::serve(Request request) {
  if (request.command == Command::kBlockStatus) {
    co_await block_status(request);
  } else {
    const auto result = co_await perform(request);
    answer(request, error_of(result));
  }
  under_way_.done();
}

Task<Result<void>> Session::perform(const Request& request) {
  const bool fua = (request.flags & kFlagFua) != 0;
  switch (request.command) {
    case Command::kFlush:
      co_return co_await device_.flush();
    case Command::kTrim:
      co_return co_await device_.trim(request.offset, request.length, fua);
    case Command::kWriteZeroes: {
      ZeroOptions options;
      options.fua = fua;
      options.no_hole = (request.flags & kFlagNoHole) != 0;
      co_return co_await device_.write_zeroes(request.offset, request.length, options);
    }
    case Command::kCache:
      co_return co_await device_.prefetch(request.offset, request.length);
    case Command::kRead:
    case Command::kWrite:
    case Command::kDisconnect:
    case Command::kBlockStatus:
      break;
  }
  co_return fail(Errc::kInvalid, "command {}", static_cast<unsigned>(request.command));
}

// What the device keeps of it counts like a buffer of the session's own.
Task<void> Session::finish_write(Request request, Task<Result<void>> begun, std::uint64_t held) {
  const auto result = co_await std::move(begun);
  answer(request, error_of(result), held);
  under_way_.done();
}

Task<void> Session::write(Request request, Buffer data, std::uint64_t held) {
  const bool fua = (request.flags & kFlagFua) != 0;
  const auto result = co_await device_.write(request.offset, std::move(data), fua);
  answer(request, error_of(result), held);
  under_way_.done();
}

Task<void> Session::write_piece(Request request, std::uint64_t offset, Buffer data,
                                std::uint64_t held, std::shared_ptr<LongWrite> whole) {
  const bool fua = (request.flags & kFlagFua) != 0;
  const auto result = co_await device_.write(offset, std::move(data), fua);
  if (!result) whole->error = wire_error(result.error().code);
  payload_.release(held);
  if (--whole->pieces_left == 0) answer(request, whole->error);
  under_way_.done();
}

Task<void> Session::read(Request request) {
  const auto length = static_cast<std::uint32_t>(request.length);
  const std::uint64_t held = pool_bytes(length);
  if (!payload_.try_acquire(held)) {
    co_await payload_.acquire(held);
    // The client may have left meanwhile, with many that still wait: others need the disk more.
    if (replies_.broken()) {
      answer(request, WireError::kShutdown, held);
      under_way_.done();
      co_return;
    }
  }
  auto data = co_await device_.read(request.offset, length);
  if (data) {
    Outgoing outgoing;
    outgoing.head = encode_data_head(framing_, request, request.offset, length, true);
    outgoing.data = std::move(*data);
    outgoing.payload_held = held;
    outgoing.ends_request = true;
    replies_.post(std::move(outgoing));
  } else {
    answer(request, wire_error(data.error().code), held);
  }
  under_way_.done();
}

// A simple reply promises success before its data, and DF wants one chunk: then all of it must be
// here first. Otherwise pieces go out as they come, and the end says whether all is well.
Task<void> Session::read_long(Request request) {
  const bool whole_reply = framing_ == Framing::kSimple || (request.flags & kFlagDf) != 0;
  std::unique_ptr<std::byte[]> memory;
  if (whole_reply) {
    co_await assembly_.acquire(request.length);
    memory.reset(new std::byte[request.length]);
  }
  LongRead whole(ring_, std::move(memory));
  for (std::uint64_t done = 0; done < request.length && whole.error == WireError::kNone;) {
    const std::uint64_t offset = request.offset + done;
    const auto length = static_cast<std::uint32_t>(piece_length(offset, request.length - done));
    co_await whole.window.acquire(1);
    whole.pieces.add();
    spawn(read_piece(request, offset, length, whole));
    done += length;
  }
  co_await whole.pieces.wait();
  Outgoing outgoing;
  outgoing.ends_request = true;
  if (whole_reply) outgoing.assembly_held = request.length;
  if (whole.error != WireError::kNone) {
    ++tally_.errors;
    outgoing.head = encode_status(framing_, request, whole.error);
  } else if (whole_reply) {
    outgoing.head = encode_data_head(framing_, request, request.offset,
                                     static_cast<std::uint32_t>(request.length), true);
    outgoing.assembled = std::move(whole.assembled);
    outgoing.assembled_bytes = request.length;
  } else {
    outgoing.head = encode_status(framing_, request, WireError::kNone);
  }
  replies_.post(std::move(outgoing));
  under_way_.done();
}

Task<void> Session::read_piece(Request request, std::uint64_t offset, std::uint32_t length,
                               LongRead& whole) {
  const std::uint64_t held = pool_bytes(length);
  if (!payload_.try_acquire(held)) co_await payload_.acquire(held);
  Result<Buffer> data = fail(Errc::kShutdown, "the client left");
  if (!replies_.broken()) data = co_await device_.read(offset, length);
  if (!data) {
    whole.error = wire_error(data.error().code);
    payload_.release(held);
  } else if (whole.assembled) {
    std::memcpy(whole.assembled.get() + (offset - request.offset), data->data(), length);
    payload_.release(held);
  } else {
    Outgoing outgoing;
    outgoing.head = encode_data_head(framing_, request, offset, length, false);
    outgoing.data = std::move(*data);
    outgoing.payload_held = held;
    replies_.post(std::move(outgoing));
  }
  whole.window.release(1);
  whole.pieces.done();
}

Task<void> Session::block_status(Request request) {
  if (contexts_.empty()) {
    answer(request, WireError::kInvalid);
    co_return;
  }
  const bool one = (request.flags & kFlagReqOne) != 0;
  Outgoing outgoing;
  outgoing.ends_request = true;
  for (std::size_t i = 0; i < contexts_.size(); ++i) {
    auto extents = co_await contexts_[i].context->status(request.offset, request.length,
                                                         one ? 1 : kExtentsMax);
    if (!extents) {
      answer(request, wire_error(extents.error().code));
      co_return;
    }
    append_block_status(outgoing.status, framing_, request, contexts_[i].id, *extents,
                        i + 1 == contexts_.size());
  }
  replies_.post(std::move(outgoing));
}

// --- Answering ---

void Session::answer(const Request& request, WireError error, std::uint64_t held) {
  if (error != WireError::kNone) ++tally_.errors;
  Outgoing outgoing;
  outgoing.head = encode_status(framing_, request, error);
  outgoing.payload_held = held;
  outgoing.ends_request = true;
  replies_.post(std::move(outgoing));
}

}  // namespace clouddisk::nbd
