#include "tools/http/tls.h"

#include <unistd.h>

#include <boost/asio/ssl/context.hpp>
#include <cerrno>

namespace clouddisk {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

constexpr std::string_view kRemedy =
    "make it with certtool, and give the folder that holds server-cert.pem and server-key.pem";

Result<void> readable(const std::string& path, std::string_view remedy) {
  if (::access(path.c_str(), R_OK) == 0) return {};
  return fail(Errc::kInvalid, "TLS: {}: {}; {}", path, errno_text(errno), remedy);
}

// An authority that can't be looked at counts as there, so that loading it fails instead of letting
// everybody in.
bool may_exist(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0 || errno != ENOENT;
}

Result<void> load_authority(ssl::context& context, const std::string& directory) {
  const std::string authority = directory + "/ca-cert.pem";
  if (!may_exist(authority)) return {};
  auto ok = readable(authority, "it holds the authority that signed the clients' certificates");
  if (!ok) return ok;
  error_code error;
  context.load_verify_file(authority, error);
  if (error) {
    return fail(Errc::kInvalid, "TLS: {}: {}; it must hold a PEM certificate of an authority",
                authority, error.message());
  }
  context.set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
  if (error) return fail(Errc::kIo, "TLS: {}", error.message());
  const std::string revoked = directory + "/ca-crl.pem";
  if (!may_exist(revoked)) return {};
  X509_STORE* store = SSL_CTX_get_cert_store(context.native_handle());
  X509_LOOKUP* lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
  if (lookup == nullptr || X509_load_crl_file(lookup, revoked.c_str(), X509_FILETYPE_PEM) <= 0 ||
      X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) != 1) {
    ERR_clear_error();
    return fail(Errc::kInvalid,
                "TLS: {}: no list of revoked certificates; make it with certtool --generate-crl, "
                "or remove it",
                revoked);
  }
  return {};
}

}  // namespace

struct HttpTls::Context {
  ssl::context value{ssl::context::tls_server};
};

HttpTls::HttpTls(std::unique_ptr<Context> context) : context_(std::move(context)) {}
HttpTls::~HttpTls() = default;

void* HttpTls::context() const {
  return &context_->value;
}

Result<std::shared_ptr<HttpTls>> HttpTls::load(const std::string& directory) {
  const std::string certificate = directory + "/server-cert.pem";
  const std::string key = directory + "/server-key.pem";
  for (const std::string& path : {certificate, key}) {
    if (auto ok = readable(path, kRemedy); !ok) return ok.error();
  }
  auto owned = std::make_unique<Context>();
  ssl::context& context = owned->value;
  error_code error;
  context.set_options(ssl::context::default_workarounds | ssl::context::no_tlsv1 |
                          ssl::context::no_tlsv1_1 | SSL_OP_NO_RENEGOTIATION |
                          SSL_OP_CIPHER_SERVER_PREFERENCE,
                      error);
  // Every handshake is a whole one: a session that goes on would need a context id for clients
  // that show certificates, and saves little to those who keep their connection.
  SSL_CTX_set_session_cache_mode(context.native_handle(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context.native_handle(), SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(context.native_handle(), 0);
  // A passphrase would be asked for on the terminal, and the daemon has none.
  context.set_password_callback(
      [](std::size_t, ssl::context::password_purpose) { return std::string(); }, error);
  context.use_certificate_chain_file(certificate, error);
  if (error) {
    return fail(Errc::kInvalid, "TLS: {}: {}; {}", certificate, error.message(), kRemedy);
  }
  context.use_private_key_file(key, ssl::context::pem, error);
  if (!error && SSL_CTX_check_private_key(context.native_handle()) != 1) {
    error = error_code(static_cast<int>(ERR_get_error()), boost::asio::error::get_ssl_category());
  }
  if (error) {
    return fail(Errc::kInvalid, "TLS: {} with {}: {}; make a matching pair with certtool",
                certificate, key, error.message());
  }
  if (auto loaded = load_authority(context, directory); !loaded) return loaded.error();
  return std::shared_ptr<HttpTls>(new HttpTls(std::move(owned)));
}

}  // namespace clouddisk
