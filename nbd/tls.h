// tls.h: TLS for NBD by GnuTLS: certificates or pre-shared keys, over any Stream.
// Clients are not asked for certificates; PSK authenticates both sides.
#pragma once

#include <memory>
#include <string>

#include "engine/base/result.h"
#include "nbd/stream.h"

namespace clouddisk::nbd {

// What the server proves itself with. Shared by all sessions; read-only once loaded.
class TlsCredentials {
 public:
  // `directory` holds server-cert.pem and server-key.pem (ca-cert.pem is for the clients), as QEMU
  // and nbdkit have it; `psk_file` lines of `user:hexkey`, as psktool writes it. One of them may be
  // empty. The error names the file and what is wrong with it.
  static Result<std::shared_ptr<TlsCredentials>> load(const std::string& directory,
                                                      const std::string& psk_file);
  ~TlsCredentials();
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;

 private:
  friend class TlsStream;
  TlsCredentials();
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

// Does the handshake as server over `below` and returns the encrypted stream.
Task<Result<std::unique_ptr<Stream>>> accept_tls(std::unique_ptr<Stream> below,
                                                 std::shared_ptr<TlsCredentials> credentials);

}  // namespace clouddisk::nbd
