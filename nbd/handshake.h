// handshake.h: fixed newstyle negotiation, from the greeting to the chosen export.
// Thread: the server's ring. Every length from the client is bounded; garbage ends the connection.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nbd/protocol.h"
#include "nbd/stream.h"

namespace clouddisk::nbd {

// What a client may learn of an export.
struct ExportInfo {
  std::string name;
  std::string description;
  std::uint64_t size_bytes = 0;
  std::uint16_t flags = 0;
};
std::uint16_t transmission_flags(bool read_only);

enum class TlsPolicy { kOff, kAllowed, kRequired };

// What the server offers during negotiation.
struct Offer {
  std::function<std::vector<ExportInfo>()> list;
  std::function<std::optional<ExportInfo>(const std::string& name)> find;
  TlsPolicy tls = TlsPolicy::kOff;
  // Wraps the stream in TLS; an error ends the connection.
  std::function<Task<Result<std::unique_ptr<Stream>>>()> start_tls;
};

struct Agreement {
  std::string export_name;
  Framing framing = Framing::kSimple;
  bool allocation_context = false;  // base:allocation, with id kAllocationId
};
inline constexpr std::uint32_t kAllocationId = 1;

// `stream` is replaced when TLS begins. An error says why there is no session; kShutdown: the
// client left, which is nothing to report.
Task<Result<Agreement>> negotiate(std::unique_ptr<Stream>& stream, const Offer& offer);

}  // namespace clouddisk::nbd
