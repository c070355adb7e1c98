// nbd_client.h: a blocking NBD client of a few lines, for tests that must know exactly which
// requests were sent and which were answered. Simple replies only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/ring/listener.h"

namespace clouddisk::e2e {

enum class NbdCommand : std::uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kWriteZeroes = 6,
};
inline constexpr std::uint16_t kNbdFua = 1;

struct NbdAnswer {
  std::uint64_t cookie = 0;
  std::uint32_t error = 0;  // an errno; 0: done
};

class NbdClient {
 public:
  static Result<NbdClient> connect(const std::string& socket_path, const std::string& export_name);

  std::uint64_t size_bytes() const { return size_bytes_; }
  // For what no client would do.
  int fd() const { return socket_.fd(); }

  // Requests may be pipelined; `data` for writes alone.
  Result<void> send(NbdCommand command, std::uint16_t flags, std::uint64_t cookie,
                    std::uint64_t offset, std::uint32_t length,
                    std::span<const std::byte> data = {});
  // The next answer. `into` is filled when it answers a read: one read at a time.
  Result<NbdAnswer> receive(std::span<std::byte> into = {});
  // Whether an answer (or the end of the connection) can be received without waiting.
  bool readable() const;

  // One request and its answer; an NBD error is a failure.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into);
  Result<void> write(std::uint64_t offset, std::span<const std::byte> data, bool fua = false);
  Result<void> flush();

 private:
  explicit NbdClient(Socket socket) : socket_(std::move(socket)) {}
  Result<void> negotiate(const std::string& export_name);
  Result<void> send_bytes(std::span<const std::byte> bytes);
  Result<void> receive_bytes(std::span<std::byte> bytes);
  Result<void> expect_done(std::span<std::byte> into);

  Socket socket_;
  std::uint64_t size_bytes_ = 0;
};

}  // namespace clouddisk::e2e
