// session.h: the transmission phase of one connection.
//
// One receive brings many requests; each runs as a coroutine of its own, begun in the order of
// arrival, and the reply queue puts what is ready into as few sends as it can. A small write's
// payload is copied once: from the receive buffer into the device's own batch, or, when that has to
// be waited for, to aligned memory first; the rest of a large one is received straight there. What
// is longer than the device takes at once goes piece by piece.
//
// Bounds: kRequestsMax requests, and the session's share of the memory for payloads and answers
// (payload_budget.h); then it reads no further, and the client waits.
// Thread: the ring of the device.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/disk/block_device.h"
#include "engine/ring/sync.h"
#include "nbd/handshake.h"
#include "nbd/meta_context.h"
#include "nbd/metrics.h"
#include "nbd/payload_budget.h"
#include "nbd/protocol.h"
#include "nbd/reply_queue.h"
#include "nbd/stream.h"

namespace clouddisk::nbd {

class Session {
 public:
  static constexpr std::uint64_t kRequestsMax = 1024;
  static constexpr std::size_t kReceiveBuffer = 256_KiB;

  // What lives longer than the session.
  struct Surroundings {
    BlockDevice& device;
    PayloadBudget& payloads;    // of the device's pool
    PayloadBudget& assemblies;  // of at least kPayloadMax, for long reads that go out in one piece
    const std::atomic<bool>& stop;  // set by any thread, who then also ends the socket's receiving
    Counters& counters;
  };
  struct OpenContext {
    std::uint32_t id = 0;
    std::unique_ptr<MetaContext> context;
  };

  Session(Surroundings surroundings, std::unique_ptr<Stream> stream, const Agreement& agreement,
          std::vector<OpenContext> contexts);
  ~Session();

  // Until the client leaves, `stop` is set or shutdown(2) of the socket ends it. Requests that
  // were begun are answered. When it returns, nothing of this session is under way on the device.
  // The result says why it ended, if that is worth a log line.
  Task<Result<void>> run();

 private:
  struct LongWrite;
  struct LongRead;

  Task<Result<void>> receive_requests();
  Task<bool> fill(std::size_t needed);
  bool begin(const Request& request);
  bool begin_write(const Request& request);
  Task<Result<bool>> begin_waiting(const Request& request);
  Task<Result<bool>> begin_long_write(const Request& request);
  Task<Buffer> take_payload(std::uint64_t length);
  Task<bool> discard_payload(std::uint64_t length);
  RequestRules rules() const;

  Task<void> serve(Request request);
  Task<Result<void>> perform(const Request& request);
  Task<void> finish_write(Request request, Task<Result<void>> begun, std::uint64_t held);
  Task<void> write(Request request, Buffer data, std::uint64_t held);
  Task<void> write_piece(Request request, std::uint64_t offset, Buffer data, std::uint64_t held,
                         std::shared_ptr<LongWrite> whole);
  Task<void> read(Request request);
  Task<void> read_long(Request request);
  Task<void> read_piece(Request request, std::uint64_t offset, std::uint32_t length,
                        LongRead& whole);
  Task<void> block_status(Request request);

  void answer(const Request& request, WireError error, std::uint64_t held = 0);

  BlockDevice& device_;
  std::unique_ptr<Stream> stream_;
  const std::atomic<bool>& stop_;
  Counters& counters_;
  const Framing framing_;
  const std::uint32_t block_size_min_;
  std::vector<OpenContext> contexts_;
  Ring& ring_;

  std::unique_ptr<std::byte[]> received_;
  std::size_t begin_ = 0;  // of what is not parsed yet
  std::size_t end_ = 0;
  bool large_payloads_ = false;  // they go past the receive buffer: don't read them into it

  Tally tally_;
  Semaphore requests_;
  PayloadBudget::Share payload_;
  PayloadBudget::Share assembly_;
  ReplyQueue replies_;
  WaitGroup under_way_;
  WaitGroup sender_;
};

}  // namespace clouddisk::nbd
