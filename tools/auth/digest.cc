#include "tools/auth/digest.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include <array>
#include <cstdint>
#include <span>

#include "engine/base/check.h"

namespace clouddisk::auth {
namespace {

constexpr std::size_t kSha1Size = 20;
constexpr std::size_t kSha256Size = 32;

std::string to_hex(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string to_base64(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = bytes.size() - i;
    const std::uint32_t group = static_cast<std::uint32_t>(bytes[i]) << 16 |
                                (left > 1 ? static_cast<std::uint32_t>(bytes[i + 1]) << 8 : 0U) |
                                (left > 2 ? bytes[i + 2] : 0U);
    text += kDigits[group >> 18];
    text += kDigits[group >> 12 & 63];
    text += left > 1 ? kDigits[group >> 6 & 63] : '=';
    text += left > 2 ? kDigits[group & 63] : '=';
  }
  return text;
}

// These fail only for an algorithm that the library was built without.
template <std::size_t Size>
std::array<std::uint8_t, Size> hmac(gnutls_mac_algorithm_t algorithm, std::string_view key,
                                    std::string_view bytes) {
  std::array<std::uint8_t, Size> digest{};
  CHECK(gnutls_hmac_get_len(algorithm) == Size);
  CHECK(gnutls_hmac_fast(algorithm, key.data(), key.size(), bytes.data(), bytes.size(),
                         digest.data()) == 0);
  return digest;
}

}  // namespace

std::string sha256_hex(std::string_view bytes) {
  std::array<std::uint8_t, kSha256Size> digest{};
  CHECK(gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes.data(), bytes.size(), digest.data()) == 0);
  return to_hex(digest);
}

std::string hmac_sha256_hex(std::string_view key, std::string_view bytes) {
  return to_hex(hmac<kSha256Size>(GNUTLS_MAC_SHA256, key, bytes));
}

std::string hmac_sha1_base64(std::string_view key, std::string_view bytes) {
  return to_base64(hmac<kSha1Size>(GNUTLS_MAC_SHA1, key, bytes));
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && gnutls_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace clouddisk::auth
