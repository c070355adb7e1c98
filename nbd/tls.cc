#include "nbd/tls.h"

#include <gnutls/gnutls.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/base/units.h"

namespace clouddisk::nbd {
namespace {

constexpr std::size_t kReceive = 64_KiB;
constexpr std::size_t kFlushAt = 256_KiB;  // of encrypted bytes gathered for one send
// 1.2 and newer; with a PSK its key exchanges too.
constexpr const char* kPriorities = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
constexpr const char* kPskPriorities =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK";

}  // namespace

struct TlsCredentials::Handles {
  gnutls_certificate_credentials_t certificate = nullptr;
  gnutls_psk_server_credentials_t psk = nullptr;
};

TlsCredentials::TlsCredentials() : handles_(std::make_unique<Handles>()) {}

TlsCredentials::~TlsCredentials() {
  if (handles_->certificate != nullptr) gnutls_certificate_free_credentials(handles_->certificate);
  if (handles_->psk != nullptr) gnutls_psk_free_server_credentials(handles_->psk);
}

Result<std::shared_ptr<TlsCredentials>> TlsCredentials::load(const std::string& directory,
                                                             const std::string& psk_file) {
  std::shared_ptr<TlsCredentials> credentials(new TlsCredentials());
  Handles& handles = *credentials->handles_;
  if (!directory.empty()) {
    const std::string certificate = directory + "/server-cert.pem";
    const std::string key = directory + "/server-key.pem";
    int rc = gnutls_certificate_allocate_credentials(&handles.certificate);
    if (rc == 0) {
      rc = gnutls_certificate_set_x509_key_file(handles.certificate, certificate.c_str(),
                                                key.c_str(), GNUTLS_X509_FMT_PEM);
    }
    if (rc < 0) {
      return fail(Errc::kInvalid, "TLS: {} and {}: {}; make them with certtool", certificate, key,
                  gnutls_strerror(rc));
    }
  }
  if (!psk_file.empty()) {
    int rc = gnutls_psk_allocate_server_credentials(&handles.psk);
    if (rc == 0) rc = gnutls_psk_set_server_credentials_file(handles.psk, psk_file.c_str());
    if (rc < 0) {
      return fail(Errc::kInvalid, "TLS: {}: {}; make it with psktool", psk_file,
                  gnutls_strerror(rc));
    }
  }
  return credentials;
}

// GnuTLS reads and writes memory; the stream below moves it. Both directions are used from one
// thread.
class TlsStream final : public Stream {
 public:
  TlsStream(std::unique_ptr<Stream> below, std::shared_ptr<TlsCredentials> credentials)
      : below_(std::move(below)), credentials_(std::move(credentials)) {}
  ~TlsStream() override {
    if (session_ != nullptr) gnutls_deinit(session_);
  }

  Result<void> set_up();
  Task<Result<void>> handshake();
  Task<int> receive(std::span<std::byte> into) override;
  Task<bool> send(std::vector<iovec>& pieces) override;
  void move_to(Ring& ring) override { below_->move_to(ring); }

 private:
  static ssize_t push(gnutls_transport_ptr_t self, const void* data, std::size_t size);
  static ssize_t pull(gnutls_transport_ptr_t self, void* into, std::size_t size);
  static int pull_timeout(gnutls_transport_ptr_t, unsigned) { return 1; }
  Task<bool> receive_encrypted();
  Task<bool> flush();

  std::unique_ptr<Stream> below_;
  std::shared_ptr<TlsCredentials> credentials_;
  gnutls_session_t session_ = nullptr;
  std::vector<std::byte> incoming_;
  std::size_t incoming_at_ = 0;
  std::vector<std::byte> outgoing_;
};

Result<void> TlsStream::set_up() {
  int rc = gnutls_init(&session_, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
  const auto& handles = *credentials_->handles_;
  if (rc == 0) {
    const char* priorities = handles.psk != nullptr ? kPskPriorities : kPriorities;
    rc = gnutls_priority_set_direct(session_, priorities, nullptr);
  }
  if (rc == 0 && handles.certificate != nullptr) {
    rc = gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, handles.certificate);
  }
  if (rc == 0 && handles.psk != nullptr) {
    rc = gnutls_credentials_set(session_, GNUTLS_CRD_PSK, handles.psk);
  }
  if (rc != 0) return fail(Errc::kIo, "TLS: {}", gnutls_strerror(rc));
  gnutls_transport_set_ptr(session_, this);
  gnutls_transport_set_push_function(session_, push);
  gnutls_transport_set_pull_function(session_, pull);
  gnutls_transport_set_pull_timeout_function(session_, pull_timeout);
  return {};
}

ssize_t TlsStream::push(gnutls_transport_ptr_t self, const void* data, std::size_t size) {
  auto& outgoing = static_cast<TlsStream*>(self)->outgoing_;
  const auto* bytes = static_cast<const std::byte*>(data);
  outgoing.insert(outgoing.end(), bytes, bytes + size);
  return static_cast<ssize_t>(size);
}

ssize_t TlsStream::pull(gnutls_transport_ptr_t self, void* into, std::size_t size) {
  auto& stream = *static_cast<TlsStream*>(self);
  const std::size_t here = stream.incoming_.size() - stream.incoming_at_;
  if (here == 0) {
    gnutls_transport_set_errno(stream.session_, EAGAIN);
    return -1;
  }
  const std::size_t count = std::min(size, here);
  std::memcpy(into, stream.incoming_.data() + stream.incoming_at_, count);
  stream.incoming_at_ += count;
  return static_cast<ssize_t>(count);
}

// Called when everything that came was consumed.
Task<bool> TlsStream::receive_encrypted() {
  incoming_.resize(kReceive);
  incoming_at_ = incoming_.size();  // Nothing to pull until it is there.
  const int got = co_await below_->receive(incoming_);
  incoming_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  incoming_at_ = 0;
  co_return got > 0;
}

Task<bool> TlsStream::flush() {
  while (!outgoing_.empty()) {
    // What is produced meanwhile goes with the next round, behind this.
    std::vector<std::byte> bytes;
    bytes.swap(outgoing_);
    const bool sent = co_await below_->send_bytes(bytes);
    if (!sent) co_return false;
  }
  co_return true;
}

Task<Result<void>> TlsStream::handshake() {
  while (true) {
    const int rc = gnutls_handshake(session_);
    const bool sent = co_await flush();
    if (!sent) co_return fail(Errc::kShutdown, "the client left during the TLS handshake");
    if (rc == 0) co_return Result<void>{};
    if (gnutls_error_is_fatal(rc) != 0) {
      co_return fail(Errc::kPermission, "TLS handshake: {}", gnutls_strerror(rc));
    }
    if (rc != GNUTLS_E_AGAIN) continue;
    const bool got = co_await receive_encrypted();
    if (!got) co_return fail(Errc::kShutdown, "the client left during the TLS handshake");
  }
}

Task<int> TlsStream::receive(std::span<std::byte> into) {
  while (true) {
    const ssize_t got = gnutls_record_recv(session_, into.data(), into.size());
    if (got >= 0) co_return static_cast<int>(got);
    if (got == GNUTLS_E_AGAIN) {
      const bool more = co_await receive_encrypted();
      if (!more) co_return 0;
      continue;
    }
    if (gnutls_error_is_fatal(static_cast<int>(got)) != 0) co_return -EPROTO;
  }
}

Task<bool> TlsStream::send(std::vector<iovec>& pieces) {
  for (const iovec& piece : pieces) {
    const auto* data = static_cast<const std::byte*>(piece.iov_base);
    std::size_t left = piece.iov_len;
    while (left > 0) {
      const ssize_t taken = gnutls_record_send(session_, data, left);
      if (taken < 0) {
        if (gnutls_error_is_fatal(static_cast<int>(taken)) != 0) co_return false;
        continue;
      }
      data += taken;
      left -= static_cast<std::size_t>(taken);
      if (outgoing_.size() < kFlushAt) continue;
      const bool sent = co_await flush();
      if (!sent) co_return false;
    }
  }
  co_return co_await flush();
}

Task<Result<std::unique_ptr<Stream>>> accept_tls(std::unique_ptr<Stream> below,
                                                 std::shared_ptr<TlsCredentials> credentials) {
  auto stream = std::make_unique<TlsStream>(std::move(below), std::move(credentials));
  if (auto ready = stream->set_up(); !ready) co_return ready.error();
  if (auto done = co_await stream->handshake(); !done) co_return done.error();
  co_return std::unique_ptr<Stream>(std::move(stream));
}

}  // namespace clouddisk::nbd
