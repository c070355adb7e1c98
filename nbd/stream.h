// stream.h: bytes to and from one client. Plain here; TLS (tls_stream.h) goes over any other.
// Thread: the ring it is on; move_to() between two uses takes it to another.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

#include "engine/ring/ring.h"

namespace clouddisk::nbd {

class Stream {
 public:
  virtual ~Stream() = default;

  // Bytes received, at least one; 0: the peer ended; negative: -errno. `into` is not empty.
  virtual Task<int> receive(std::span<std::byte> into) = 0;
  // Sends everything, in order. False: the connection is broken. `pieces` is consumed.
  virtual Task<bool> send(std::vector<iovec>& pieces) = 0;
  // Tells the peer that nothing more will come, where the stream has a way to. After the last send.
  virtual Task<void> finish() = 0;
  // Ends what waits on the stream, and all that follows. May be called at any time.
  virtual void shutdown() = 0;
  // When a byte last went through the socket, in either direction.
  virtual TimePoint last_progress() const = 0;
  virtual void move_to(Ring& ring) = 0;

  // Fills `into`; false when the stream ends before.
  Task<bool> receive_all(std::span<std::byte> into);
  Task<bool> send_bytes(std::span<const std::byte> bytes);
};

class PlainStream final : public Stream {
 public:
  // Borrows the socket.
  PlainStream(Ring& ring, int socket) : ring_(&ring), socket_(socket), progress_(ring.now()) {}
  Task<int> receive(std::span<std::byte> into) override;
  Task<bool> send(std::vector<iovec>& pieces) override;
  Task<void> finish() override;
  void shutdown() override;
  TimePoint last_progress() const override { return progress_; }
  void move_to(Ring& ring) override { ring_ = &ring; }

 private:
  Ring* ring_;
  int socket_;
  TimePoint progress_;
};

}  // namespace clouddisk::nbd
