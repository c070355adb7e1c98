// tls_config.h: what a server proves itself with, and what it asks of clients.
#pragma once

#include <memory>
#include <string>

#include "engine/base/result.h"

namespace clouddisk::nbd {

enum class TlsPolicy { kOff, kAllowed, kRequired };

// Shared by all sessions; read-only once loaded, so any thread.
class TlsCredentials {
 public:
  // `directory` is laid out as QEMU has it: server-cert.pem and server-key.pem; ca-cert.pem too
  // when `verify_clients` asks them for a certificate of that authority (with ca-crl.pem, where it
  // is there, for the revoked ones). `psk_file` holds lines of `user:hexkey`, as psktool writes
  // them; a client that uses one is authenticated by it and shows no certificate. One of the two
  // may be empty. kInvalid: names the file, what is wrong with it and how to make a good one.
  static Result<std::shared_ptr<TlsCredentials>> load(const std::string& directory,
                                                      const std::string& psk_file,
                                                      bool verify_clients = false);
  ~TlsCredentials();
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;

 private:
  friend class TlsStream;
  struct Handles;
  TlsCredentials();
  Result<void> load_certificate(const std::string& directory, bool verify_clients);
  Result<void> load_keys(const std::string& psk_file);
  // A new server session that uses these.
  Result<void> apply(void* gnutls_session) const;

  std::unique_ptr<Handles> handles_;
};

}  // namespace clouddisk::nbd
