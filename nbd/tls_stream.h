// tls_stream.h: TLS for NBD by GnuTLS, over any Stream. GnuTLS works on memory and the stream below
// moves the bytes, so an encrypted session runs like a plain one. Thread: as the stream below.
#pragma once

#include <memory>

#include "nbd/stream.h"
#include "nbd/tls_config.h"

namespace clouddisk::nbd {

// Does the handshake as server over `below` and returns the encrypted stream. kPermission: the
// client failed it. kShutdown: it left.
Task<Result<std::unique_ptr<Stream>>> accept_tls(std::unique_ptr<Stream> below,
                                                 std::shared_ptr<TlsCredentials> credentials);

}  // namespace clouddisk::nbd
