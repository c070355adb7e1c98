#include "engine/ring/address.h"

#include <sys/un.h>

#include <charconv>

#include "engine/base/percent.h"

namespace clouddisk {
namespace {

// An IPv6 address goes in brackets.
std::string host_and_port(const std::string& host, std::uint16_t port) {
  const bool bracket = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", bracket ? "[" : "", host, bracket ? "]" : "", port);
}

Result<Address> parse_unix(std::string_view path) {
  constexpr std::size_t kPathMax = sizeof(sockaddr_un{}.sun_path) - 1;
  if (path.size() > kPathMax) {
    return fail(Errc::kInvalid,
                "socket path {} has {} bytes and the system allows {}: choose a shorter folder",
                path, path.size(), kPathMax);
  }
  return Address::unix_socket(std::string(path));
}

}  // namespace

std::string Address::text() const {
  return is_unix() ? "unix:" + path : "tcp:" + host_and_port(host, port);
}

Result<Address> parse_address(std::string_view text) {
  if (text.starts_with("unix:") && text.size() > 5 && text.find('\0') == std::string_view::npos) {
    return parse_unix(text.substr(5));
  }
  const auto colon = text.rfind(':');
  if (text.starts_with("tcp:") && colon > 4) {
    std::string_view host = text.substr(4, colon - 4);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    const bool plain = host.find_first_of("[]") == std::string_view::npos &&
                       (bracketed || host.find(':') == std::string_view::npos);
    const std::string_view digits = text.substr(colon + 1);
    std::uint16_t port = 0;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (plain && parsed.ec == std::errc{} && parsed.ptr == digits.data() + digits.size()) {
      return Address::tcp(std::string(host), port);
    }
  }
  return fail(Errc::kInvalid,
              "'{}' is not an address: give unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT, port 0 to "
              "65535",
              text);
}

std::string nbd_uri(const Address& address, bool tls, std::string_view export_name) {
  const std::string_view scheme = tls ? "nbds" : "nbd";
  const std::string name = percent_encode(export_name);
  if (address.is_unix()) {
    return fmt::format("{}+unix:///{}?socket={}", scheme, name, percent_encode(address.path, "/"));
  }
  const bool any = address.host == "0.0.0.0" || address.host == "::" || address.host == "*";
  return fmt::format("{}://{}/{}", scheme,
                     host_and_port(any ? "localhost" : address.host, address.port), name);
}

}  // namespace clouddisk
