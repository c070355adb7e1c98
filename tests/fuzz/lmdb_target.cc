// lmdb_target.cc: an LMDB file with any damage. LMDB trusts its file, so what lmdb_check lets
// through must be safe to read and to write: the promise that this target tests with the real
// library.
//
// Input: edits of a sound file: page, offset in it (two bytes each), length, bytes. An odd length
// byte cuts the file off behind that page instead.
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/base/bytes.h"
#include "engine/ring/lmdb_check.h"
#include "engine/ring/lmdb_kv.h"
#include "tests/fuzz/fuzz_target.h"

namespace clouddisk::fuzz {
namespace {
namespace fs = std::filesystem;

std::string number_key(std::uint64_t number) {
  std::string key(12, 'k');
  store_be(reinterpret_cast<std::byte*>(key.data()) + 4, number);
  return key;
}

// In memory where there is such a folder.
class Folder {
 public:
  Folder() {
    const bool shared = fs::is_directory("/dev/shm");
    std::string pattern =
        ((shared ? fs::path("/dev/shm") : fs::temp_directory_path()) / "clouddisk-fuzz-XXXXXX")
            .string();
    CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Branches, leaves, overflow pages, and a list of free ones.
std::vector<char> sound_file(const std::string& folder) {
  const std::string path = folder + "/base";
  {
    auto kv = open_lmdb(path, KvOptions{});
    CHECK(kv.has_value());
    for (unsigned round = 0; round < 3; ++round) {
      auto txn = (*kv)->write();
      CHECK(txn.has_value());
      for (std::uint64_t i = 0; i < 40; ++i) {
        const std::vector<std::byte> value(i % 13 == 0 ? 5000 : 30 + 10 * i, std::byte{7});
        CHECK((*txn)->put(as_bytes(number_key(i)), value).has_value());
      }
      if (round == 1) {
        for (std::uint64_t i = 0; i < 8; ++i) {
          CHECK((*txn)->erase(as_bytes(number_key(i * 3))).has_value());
        }
      }
      CHECK((*txn)->commit().has_value());
    }
  }
  std::ifstream file(path + "/data.mdb", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void use(Kv& kv) {
  if (auto txn = kv.read()) {
    std::uint64_t bytes = 0;
    static_cast<void>((*txn)->scan(as_bytes("a"), as_bytes("z"), [&](KvBytes key, KvBytes value) {
      for (const std::byte byte : value) bytes += std::to_integer<unsigned>(byte);
      bytes += key.size();
      return true;
    }));
    static_cast<void>((*txn)->get(as_bytes(number_key(5))));
    static_cast<void>((*txn)->floor(as_bytes(number_key(17))));
    static_cast<void>((*txn)->lower_bound(as_bytes(number_key(23))));
  }
  auto txn = kv.write();
  if (!txn) return;
  const std::vector<std::byte> value(6000, std::byte{9});
  static_cast<void>((*txn)->put(as_bytes(number_key(7)), value));
  static_cast<void>((*txn)->erase(as_bytes(number_key(9))));
  static_cast<void>((*txn)->put(as_bytes(number_key(99)), std::span(value).first(100)));
  static_cast<void>((*txn)->commit());
}

}  // namespace

FUZZ_TARGET(lmdb_file) {
  constexpr std::size_t kPage = 4096;
  static const Folder folder;
  static const std::vector<char> sound = sound_file(folder.path());
  std::vector<char> content = sound;
  Feed feed(input);
  while (!feed.empty()) {
    const std::size_t page = feed.word() % (sound.size() / kPage);
    const std::size_t at = feed.word() % kPage;
    const std::size_t length = feed.byte();
    if (length % 2 == 1) {
      content.resize(std::min(content.size(), page * kPage + at));
      continue;
    }
    const Input bytes = feed.bytes(length / 2);
    for (std::size_t i = 0; i < bytes.size() && page * kPage + at + i < content.size(); ++i) {
      content[page * kPage + at + i] = static_cast<char>(bytes[i]);
    }
  }
  const std::string damaged = folder.path() + "/damaged";
  fs::remove_all(damaged);
  fs::create_directory(damaged);
  const std::string path = damaged + "/data.mdb";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  CHECK(fd >= 0);
  CHECK(::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  ::close(fd);
  const bool passes = check_lmdb_file(path).has_value();
  auto kv = open_lmdb(damaged, KvOptions{});
  if (!kv) return;
  CHECK(passes);
  use(**kv);
}

}  // namespace clouddisk::fuzz
