// tls.h: what the HTTP server proves itself with over TLS, and what it asks of clients.
//
// Why OpenSSL here and GnuTLS for NBD: Asio's streams are made for it. The folder is the same.
#pragma once

#include <memory>
#include <string>

#include "engine/base/result.h"

namespace clouddisk {

// Read-only once loaded, so any thread. TLS 1.2 and newer.
class HttpTls {
 public:
  // `directory` is laid out as for NBD: server-cert.pem (with the authorities between it and the
  // root, if there are any) and server-key.pem; with a ca-cert.pem, clients must show a certificate
  // of that authority, and with a ca-crl.pem beside it none that it lists. kInvalid: names the
  // file, what is wrong with it and how to make a good one.
  static Result<std::shared_ptr<HttpTls>> load(const std::string& directory);
  ~HttpTls();
  HttpTls(const HttpTls&) = delete;
  HttpTls& operator=(const HttpTls&) = delete;

  // An asio::ssl::context, for the server alone.
  void* context() const;

 private:
  struct Context;
  explicit HttpTls(std::unique_ptr<Context> context);
  std::unique_ptr<Context> context_;
};

}  // namespace clouddisk
