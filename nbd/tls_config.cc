#include "nbd/tls_config.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <vector>

namespace clouddisk::nbd {
namespace {

// 1.2 and newer; with pre-shared keys their key exchanges too.
constexpr const char* kPriorities = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
constexpr const char* kPskPriorities =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK";
constexpr std::size_t kKeyMin = 16;  // bytes
constexpr std::size_t kLineMax = 1024;

using Key = std::vector<unsigned char>;

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Empty when it is not a whole number of hex bytes.
Key from_hex(std::string_view text) {
  Key key;
  if (text.size() % 2 != 0) return {};
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]);
    const int low = digit(text[i + 1]);
    if (high < 0 || low < 0) return {};
    key.push_back(static_cast<unsigned char>(high * 16 + low));
  }
  return key;
}

Result<void> readable(const std::string& path, std::string_view remedy) {
  if (::access(path.c_str(), R_OK) == 0) return {};
  return fail(Errc::kInvalid, "TLS: {}: {}; {}", path, errno_text(errno), remedy);
}

}  // namespace

struct TlsCredentials::Handles {
  gnutls_certificate_credentials_t certificate = nullptr;
  gnutls_psk_server_credentials_t psk = nullptr;
  std::map<std::string, Key> keys;
  bool verify_clients = false;

  // GnuTLS asks for the key of `user`. An unknown one gets a random key, so that a stranger can't
  // tell a wrong name from a wrong key.
  static int find_key(gnutls_session_t session, const char* user, gnutls_datum_t* key) {
    const auto* self = static_cast<const Handles*>(gnutls_session_get_ptr(session));
    const auto it = self->keys.find(user);
    const std::size_t size = it == self->keys.end() ? 32 : it->second.size();
    key->data = static_cast<unsigned char*>(gnutls_malloc(size));
    if (key->data == nullptr) return -1;
    key->size = static_cast<unsigned>(size);
    if (it != self->keys.end()) {
      std::memcpy(key->data, it->second.data(), size);
      return 0;
    }
    return gnutls_rnd(GNUTLS_RND_KEY, key->data, size) == 0 ? 0 : -1;
  }
};

TlsCredentials::TlsCredentials() : handles_(std::make_unique<Handles>()) {}

TlsCredentials::~TlsCredentials() {
  if (handles_->certificate != nullptr) gnutls_certificate_free_credentials(handles_->certificate);
  if (handles_->psk != nullptr) gnutls_psk_free_server_credentials(handles_->psk);
  for (auto& [user, key] : handles_->keys) gnutls_memset(key.data(), 0, key.size());
}

Result<std::shared_ptr<TlsCredentials>> TlsCredentials::load(const std::string& directory,
                                                             const std::string& psk_file,
                                                             bool verify_clients) {
  std::shared_ptr<TlsCredentials> credentials(new TlsCredentials());
  if (directory.empty() && psk_file.empty()) {
    return fail(Errc::kInvalid, "TLS: give a folder with certificates, or a file with keys");
  }
  if (verify_clients && directory.empty()) {
    return fail(Errc::kInvalid, "TLS: to verify clients, give the folder that holds ca-cert.pem");
  }
  if (!directory.empty()) {
    if (auto done = credentials->load_certificate(directory, verify_clients); !done) {
      return done.error();
    }
  }
  if (!psk_file.empty()) {
    if (auto done = credentials->load_keys(psk_file); !done) return done.error();
  }
  return credentials;
}

Result<void> TlsCredentials::load_certificate(const std::string& directory, bool verify_clients) {
  const std::string certificate = directory + "/server-cert.pem";
  const std::string key = directory + "/server-key.pem";
  constexpr std::string_view kRemedy =
      "make it with certtool, and give the folder that holds server-cert.pem and server-key.pem";
  for (const std::string& path : {certificate, key}) {
    if (auto ok = readable(path, kRemedy); !ok) return ok;
  }
  auto& handle = handles_->certificate;
  int rc = gnutls_certificate_allocate_credentials(&handle);
  if (rc == 0) {
    rc = gnutls_certificate_set_x509_key_file(handle, certificate.c_str(), key.c_str(),
                                              GNUTLS_X509_FMT_PEM);
  }
  if (rc < 0) {
    return fail(Errc::kInvalid, "TLS: {} with {}: {}; make a matching pair with certtool",
                certificate, key, gnutls_strerror(rc));
  }
  if (!verify_clients) return {};
  const std::string authority = directory + "/ca-cert.pem";
  constexpr std::string_view kWhose =
      "it holds the authority that signed the clients' certificates";
  if (auto ok = readable(authority, kWhose); !ok) return ok;
  rc = gnutls_certificate_set_x509_trust_file(handle, authority.c_str(), GNUTLS_X509_FMT_PEM);
  if (rc <= 0) {  // How many there are.
    return fail(Errc::kInvalid, "TLS: {}: {}; it must hold a PEM certificate of an authority",
                authority, rc == 0 ? "no certificate in it" : gnutls_strerror(rc));
  }
  const std::string revoked = directory + "/ca-crl.pem";
  if (::access(revoked.c_str(), F_OK) == 0) {
    rc = gnutls_certificate_set_x509_crl_file(handle, revoked.c_str(), GNUTLS_X509_FMT_PEM);
    if (rc < 0) {
      return fail(Errc::kInvalid, "TLS: {}: {}; make it with certtool --generate-crl, or remove it",
                  revoked, gnutls_strerror(rc));
    }
  }
  handles_->verify_clients = true;
  return {};
}

Result<void> TlsCredentials::load_keys(const std::string& psk_file) {
  constexpr std::string_view kRemedy = "make it with psktool --username NAME --pskfile FILE";
  if (auto ok = readable(psk_file, kRemedy); !ok) return ok;
  std::ifstream in(psk_file);
  std::string line;
  for (unsigned number = 1; std::getline(in, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    const std::size_t colon = line.rfind(':');
    Key key;
    if (colon != std::string::npos && colon > 0 && line.size() <= kLineMax) {
      key = from_hex(std::string_view(line).substr(colon + 1));
    }
    if (key.size() < kKeyMin) {
      return fail(Errc::kInvalid,
                  "TLS: {}, line {}: not `user:hexkey` with a key of {} bytes or more; {}",
                  psk_file, number, kKeyMin, kRemedy);
    }
    handles_->keys[line.substr(0, colon)] = std::move(key);
  }
  if (handles_->keys.empty()) {
    return fail(Errc::kInvalid, "TLS: {}: no key in it; {}", psk_file, kRemedy);
  }
  const int rc = gnutls_psk_allocate_server_credentials(&handles_->psk);
  if (rc < 0) return fail(Errc::kIo, "TLS: {}", gnutls_strerror(rc));
  gnutls_psk_set_server_credentials_function(handles_->psk, Handles::find_key);
  return {};
}

Result<void> TlsCredentials::apply(void* gnutls_session) const {
  auto* session = static_cast<gnutls_session_t>(gnutls_session);
  const Handles& handles = *handles_;
  gnutls_session_set_ptr(session, handles_.get());
  int rc = gnutls_priority_set_direct(
      session, handles.psk != nullptr ? kPskPriorities : kPriorities, nullptr);
  if (rc == 0 && handles.certificate != nullptr) {
    rc = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, handles.certificate);
  }
  if (rc == 0 && handles.psk != nullptr) {
    rc = gnutls_credentials_set(session, GNUTLS_CRD_PSK, handles.psk);
  }
  if (rc != 0) return fail(Errc::kIo, "TLS: {}", gnutls_strerror(rc));
  if (handles.verify_clients) {
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert(session, nullptr, 0);
  }
  return {};
}

}  // namespace clouddisk::nbd
