#include "nbd/tls_stream.h"

#include <gnutls/gnutls.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/base/units.h"

namespace clouddisk::nbd {
namespace {

constexpr std::size_t kReceive = 64_KiB;
constexpr std::size_t kRecord = 16_KiB;    // the most that one TLS record holds
constexpr std::size_t kFlushAt = 256_KiB;  // of encrypted bytes gathered for one send

}  // namespace

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
  Task<void> finish() override;
  void shutdown() override { below_->shutdown(); }
  TimePoint last_progress() const override { return below_->last_progress(); }
  void move_to(Ring& ring) override { below_->move_to(ring); }

 private:
  static ssize_t push(gnutls_transport_ptr_t self, const void* data, std::size_t size);
  static ssize_t pull(gnutls_transport_ptr_t self, void* into, std::size_t size);
  static int pull_timeout(gnutls_transport_ptr_t, unsigned) { return 1; }
  Task<bool> receive_encrypted();
  bool encrypt(std::span<const std::byte> data);
  Task<bool> flush();

  std::unique_ptr<Stream> below_;
  std::shared_ptr<TlsCredentials> credentials_;
  gnutls_session_t session_ = nullptr;
  std::vector<std::byte> incoming_;
  std::size_t incoming_at_ = 0;
  std::vector<std::byte> plain_;     // small pieces that share a record
  std::vector<std::byte> outgoing_;  // encrypted
  std::vector<std::byte> sending_;   // encrypted, on its way
};

Result<void> TlsStream::set_up() {
  const int rc = gnutls_init(&session_, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
  if (rc != 0) return fail(Errc::kIo, "TLS: {}", gnutls_strerror(rc));
  if (auto applied = credentials_->apply(session_); !applied) return applied;
  gnutls_transport_set_ptr(session_, this);
  gnutls_transport_set_push_function(session_, push);
  gnutls_transport_set_pull_function(session_, pull);
  gnutls_transport_set_pull_timeout_function(session_, pull_timeout);
  plain_.reserve(kRecord);
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
    sending_.clear();
    sending_.swap(outgoing_);
    const bool sent = co_await below_->send_bytes(sending_);
    if (!sent) co_return false;
  }
  co_return true;
}

Task<Result<void>> TlsStream::handshake() {
  while (true) {
    const int rc = gnutls_handshake(session_);
    const bool sent = co_await flush();
    if (rc != 0 && gnutls_error_is_fatal(rc) != 0) {
      co_return fail(Errc::kPermission, "TLS handshake: {}", gnutls_strerror(rc));
    }
    if (!sent) co_return fail(Errc::kShutdown, "the client left during the TLS handshake");
    if (rc == 0) co_return Result<void>{};
    if (rc != GNUTLS_E_AGAIN) continue;  // A warning: go on.
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
    // A client has no business to renegotiate.
    if (got == GNUTLS_E_REHANDSHAKE || gnutls_error_is_fatal(static_cast<int>(got)) != 0) {
      co_return -EPROTO;
    }
  }
}

bool TlsStream::encrypt(std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t taken = gnutls_record_send(session_, data.data(), data.size());
    if (taken == GNUTLS_E_INTERRUPTED || taken == GNUTLS_E_AGAIN) continue;
    if (taken < 0) return false;
    data = data.subspan(static_cast<std::size_t>(taken));
  }
  return true;
}

Task<bool> TlsStream::send(std::vector<iovec>& pieces) {
  for (const iovec& piece : pieces) {
    std::span<const std::byte> data(static_cast<const std::byte*>(piece.iov_base), piece.iov_len);
    while (!data.empty()) {
      // Heads and small data share records; what is large is taken from where it is.
      if (plain_.empty() && data.size() >= kRecord) {
        if (!encrypt(data.first(kRecord))) co_return false;
        data = data.subspan(kRecord);
      } else {
        const std::size_t count = std::min(data.size(), kRecord - plain_.size());
        plain_.insert(plain_.end(), data.begin(),
                      data.begin() + static_cast<std::ptrdiff_t>(count));
        data = data.subspan(count);
        if (plain_.size() == kRecord) {
          if (!encrypt(plain_)) co_return false;
          plain_.clear();
        }
      }
      if (outgoing_.size() < kFlushAt) continue;
      const bool sent = co_await flush();
      if (!sent) co_return false;
    }
  }
  if (!encrypt(plain_)) co_return false;
  plain_.clear();
  co_return co_await flush();
}

Task<void> TlsStream::finish() {
  static_cast<void>(gnutls_bye(session_, GNUTLS_SHUT_WR));
  const bool sent = co_await flush();
  static_cast<void>(sent);  // The peer may be gone already.
}

Task<Result<std::unique_ptr<Stream>>> accept_tls(std::unique_ptr<Stream> below,
                                                 std::shared_ptr<TlsCredentials> credentials) {
  auto stream = std::make_unique<TlsStream>(std::move(below), std::move(credentials));
  if (auto ready = stream->set_up(); !ready) co_return ready.error();
  if (auto done = co_await stream->handshake(); !done) co_return done.error();
  co_return std::unique_ptr<Stream>(std::move(stream));
}

}  // namespace clouddisk::nbd
