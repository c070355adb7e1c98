// handshake.h: fixed newstyle negotiation, from the greeting to the chosen export.
// Thread: the server's ring. Every length from the client is bounded; garbage ends the connection.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nbd/protocol.h"
#include "nbd/stream.h"
#include "nbd/tls_config.h"

namespace clouddisk::nbd {

// What a client may learn of an export.
struct ExportInfo {
  std::string name;
  std::string description;
  std::uint64_t id = 0;  // never used again, unlike the name
  std::uint64_t size_bytes = 0;
  bool read_only = false;
};
// `structured`: replies are, so DF means something.
std::uint16_t transmission_flags(bool read_only, bool structured);

// What a negotiation asks of its server.
class Offer {
 public:
  virtual ~Offer() = default;
  virtual std::vector<ExportInfo> list() = 0;  // names and descriptions alone
  virtual Task<std::optional<ExportInfo>> find(std::string name) = 0;
  // The meta contexts of an export that a query names; `exact`: one by its full name.
  virtual std::vector<std::string> contexts(const std::string& export_name, std::string_view query,
                                            bool exact) = 0;
  virtual TlsPolicy tls() const = 0;
  // Wraps the stream; an error ends the connection.
  virtual Task<Result<std::unique_ptr<Stream>>> start_tls(std::unique_ptr<Stream> stream) = 0;
};

struct ContextChoice {
  std::uint32_t id = 0;
  std::string name;
};

struct Agreement {
  std::string export_name;
  std::uint64_t export_id = 0;
  Framing framing = Framing::kSimple;
  bool knows_block_sizes = false;  // the client asked for them, so it is held to the minimum
  std::vector<ContextChoice> contexts;
};

// `stream` is replaced when TLS begins, and null when that failed. An error says why there is no
// session; kShutdown: the client left, which is nothing to report.
Task<Result<Agreement>> negotiate(std::unique_ptr<Stream>& stream, Offer& offer);

}  // namespace clouddisk::nbd
