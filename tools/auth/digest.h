// digest.h: the hashes that signatures are made of, by GnuTLS. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace clouddisk::auth {

std::string sha256_hex(std::string_view bytes);                        // 64 digits, lower case
std::string hmac_sha256_hex(std::string_view key, std::string_view);   // 64 digits, lower case
std::string hmac_sha1_base64(std::string_view key, std::string_view);  // 28 characters

// Takes as long for the first difference as for the last. Lengths are no secret.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace clouddisk::auth
