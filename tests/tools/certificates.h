// certificates.h: certtool's work, for tests of TLS: an authority, and keys and certificates of it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace clouddisk {

// In `folder`: KIND-key.pem and KIND-cert.pem for "server" or "client", at localhost and 127.0.0.1.
// The authority's ca-key.pem and ca-cert.pem are in `authority`, made if they are not there. False
// when certtool fails.
inline bool make_certificates(const std::string& folder, const std::string& authority,
                              const std::string& kind) {
  const auto certtool = [](const std::string& arguments) {
    return std::system(("certtool " + arguments + " 2> /dev/null").c_str()) == 0;
  };
  const auto make_key = [&](const std::string& path) {
    return certtool("--generate-privkey --key-type=ecdsa --outfile " + path);
  };
  const std::string ca = authority + "/ca";
  std::filesystem::create_directories(authority);
  std::filesystem::create_directories(folder);
  if (!std::filesystem::exists(ca + "-cert.pem")) {
    std::ofstream(ca + ".info") << "cn = \"authority\"\nca\ncert_signing_key\n";
    if (!make_key(ca + "-key.pem") ||
        !certtool("--generate-self-signed --load-privkey " + ca + "-key.pem --template " + ca +
                  ".info --outfile " + ca + "-cert.pem")) {
      return false;
    }
  }
  const std::string base = folder + "/" + kind;
  std::ofstream(base + ".info") << "cn = \"x\"\ndns_name = \"localhost\"\n"
                                << "ip_address = \"127.0.0.1\"\nsigning_key\nencryption_key\n"
                                << "tls_www_" << kind << "\n";
  return make_key(base + "-key.pem") &&
         certtool("--generate-certificate --load-ca-certificate " + ca +
                  "-cert.pem --load-ca-privkey " + ca + "-key.pem --load-privkey " + base +
                  "-key.pem --template " + base + ".info --outfile " + base + "-cert.pem");
}

}  // namespace clouddisk
