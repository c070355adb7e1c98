// stream.h: bytes to and from one client. Plain here; TLS (tls_stream.h) wraps the same socket.
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

  // Bytes received, at least one; 0: the peer ended; negative: -errno.
  virtual Task<int> receive(std::span<std::byte> into) = 0;
  // Sends everything, in order. False: the connection is broken. `pieces` is consumed.
  virtual Task<bool> send(std::vector<iovec>& pieces) = 0;
  virtual void move_to(Ring& ring) = 0;

  // Fills `into`; false when the stream ends before.
  Task<bool> receive_all(std::span<std::byte> into);
  Task<bool> send_bytes(std::span<const std::byte> bytes);
};

class PlainStream final : public Stream {
 public:
  // Borrows the socket.
  PlainStream(Ring& ring, int socket) : ring_(&ring), socket_(socket) {}
  Task<int> receive(std::span<std::byte> into) override;
  Task<bool> send(std::vector<iovec>& pieces) override;
  void move_to(Ring& ring) override { ring_ = &ring; }

 private:
  Ring* ring_;
  int socket_;
};

}  // namespace clouddisk::nbd
