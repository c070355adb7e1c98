// session.h: the transmission phase of one connection.
//
// One receive brings many requests; each runs as a coroutine of its own, and one sender puts what
// is ready into as few sends as it can. A small write's payload is copied once, from the receive
// buffer to aligned memory; the rest of a large one is received straight into it.
//
// Bounds: kRequestsMax requests and kBytesMax bytes of answers and payloads under way; then the
// session reads no further, and the client waits. Thread: the ring of the device.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "engine/disk/block_device.h"
#include "engine/ring/sync.h"
#include "nbd/handshake.h"
#include "nbd/protocol.h"
#include "nbd/stream.h"

namespace clouddisk::nbd {

// Of all sessions of a server. Any thread.
struct Counters {
  std::atomic<std::uint64_t> connections{0};  // now
  std::atomic<std::uint64_t> connections_total{0};
  std::atomic<std::uint64_t> refused{0};  // over the limit, or negotiation failed
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> errors{0};  // requests answered with an error
  std::atomic<std::uint64_t> bytes_received{0};
  std::atomic<std::uint64_t> bytes_sent{0};
};

class Session {
 public:
  static constexpr std::uint64_t kRequestsMax = 1024;
  static constexpr std::uint64_t kBytesMax = 32_MiB;
  static constexpr std::size_t kReceiveBuffer = 256_KiB;

  // `device` outlives the session.
  Session(BlockDevice& device, std::unique_ptr<Stream> stream, Agreement agreement,
          Counters& counters);
  ~Session();

  // Until the client leaves or shutdown(2) of the socket ends it. When it returns, nothing of this
  // session is under way on the device. The result says why it ended, if that is worth a log line.
  Task<Result<void>> run();

 private:
  // One thing to send: a head, perhaps data behind it.
  struct Outgoing {
    ReplyHead head;
    std::vector<std::byte> extra;
    Buffer data;
    std::uint64_t held_bytes = 0;  // of the budget, given back once sent
    bool ends_request = false;
  };
  struct SplitWrite;

  Task<Result<void>> receive_requests();
  Task<bool> fill(std::size_t needed);
  Task<Result<Buffer>> take_payload(std::uint64_t length);
  Task<bool> discard_payload(std::uint64_t length);
  Task<Result<bool>> dispatch(const Request& request);
  Task<Result<bool>> dispatch_write(const Request& request);

  Task<void> serve(Request request);
  Task<void> write(Request request, Buffer data, std::uint64_t offset,
                   std::shared_ptr<SplitWrite> whole);
  Task<void> read(Request request);
  Task<void> read_simple(Request request);
  Task<void> block_status(Request request);

  void answer(const Request& request, const Result<void>& result, std::uint64_t held_bytes);
  void answer(const Request& request, WireError error, std::uint64_t held_bytes);
  void post(Outgoing outgoing);
  Task<void> send_replies();
  Task<void> hold(std::uint64_t bytes);

  BlockDevice& device_;
  std::unique_ptr<Stream> stream_;
  Agreement agreement_;
  Counters& counters_;
  Ring& ring_;

  std::vector<std::byte> received_;
  std::size_t begin_ = 0;  // of what is not parsed yet
  std::size_t end_ = 0;
  Semaphore requests_;
  Semaphore bytes_;
  std::deque<Outgoing> outgoing_;
  Signal outgoing_changed_;
  WaitGroup under_way_;
  bool broken_ = false;    // nothing can be sent any more
  bool finished_ = false;  // the sender may stop once its queue is empty
  WaitGroup sender_;
};

}  // namespace clouddisk::nbd
