// reply_queue.h: answers on their way to one client. What is ready leaves with as few sends as the
// socket takes, from where it lies: heads, and the pool's buffers behind them.
// Thread: the session's ring.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/ring/buffer_pool.h"
#include "engine/ring/sync.h"
#include "nbd/metrics.h"
#include "nbd/payload_budget.h"
#include "nbd/protocol.h"
#include "nbd/stream.h"

namespace clouddisk::nbd {

// One thing to send: a head, perhaps data behind it. The three kinds of data follow each other.
struct Outgoing {
  ReplyHead head;
  Buffer data;
  std::vector<std::byte> status;           // a block status reply
  std::unique_ptr<std::byte[]> assembled;  // a long read in one piece
  std::size_t assembled_bytes = 0;
  std::uint64_t payload_held = 0;   // of the session's share, given back once sent
  std::uint64_t assembly_held = 0;  // the same, of memory outside the pool
  bool ends_request = false;
};

class ReplyQueue {
 public:
  struct Shares {
    PayloadBudget::Share& payload;
    PayloadBudget::Share& assembly;
    Semaphore& requests;  // one permit back for each answered request
    Tally& tally;
  };
  ReplyQueue(Ring& ring, Stream& stream, Shares shares);

  void post(Outgoing outgoing);
  // Sends until close() was called and all is sent. When the client does not take it any more,
  // the stream is shut down and the rest is dropped; what it holds is given back all the same.
  Task<void> run();
  void close();
  bool broken() const { return broken_; }

 private:
  // Sends and clears batch_[first, last).
  Task<void> send_part(std::size_t first, std::size_t last);

  Stream& stream_;
  Shares shares_;
  Signal changed_;
  std::vector<Outgoing> ready_;
  std::vector<Outgoing> batch_;  // on its way
  std::vector<iovec> pieces_;
  bool closed_ = false;
  bool broken_ = false;
};

}  // namespace clouddisk::nbd
