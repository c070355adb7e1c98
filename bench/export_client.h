// export_client.h: the client's side of the NBD handshake, up to a connection that takes requests
// and is answered by simple replies. Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "bench/socket_io.h"

namespace clouddisk::bench {

struct OpenExport {
  Descriptor socket;  // blocking
  std::uint64_t size_bytes = 0;
  std::uint16_t flags = 0;  // of the transmission: nbd::kSendFua, …
};

// kIo: nobody there, or the server left; kCorrupt: what it said is not NBD; kNotFound: it refuses
// the export.
Result<OpenExport> open_export(const std::string& socket_path, const std::string& name);

struct ExportPlace {
  std::string socket_path;
  std::string name;
};
// "nbd+unix:///NAME?socket=PATH", without escapes. kInvalid says what would be accepted.
Result<ExportPlace> parse_unix_uri(const std::string& uri);

}  // namespace clouddisk::bench
