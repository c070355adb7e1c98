#include "tools/auth/nonce_journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

namespace clouddisk::auth {
namespace {

constexpr std::size_t kRecordSize = 24;
constexpr std::size_t kChunkRecords = 4096;
constexpr int kOpenFlags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC;
constexpr mode_t kJournalMode = 0600;

using RecordBytes = std::array<std::byte, kRecordSize>;

RecordBytes encode(const UsedNonce& nonce) {
  RecordBytes bytes{};
  store_le(bytes.data(), static_cast<std::uint32_t>(nonce.forget_at));
  store_le(bytes.data() + 4, nonce.key);
  store_le(bytes.data() + 8, nonce.fingerprint);
  store_le(bytes.data() + 16, checksum64(std::span(bytes).first(16)));
  return bytes;
}

// A record that was written in part would put those after it out of step; so it is taken back.
Result<void> write_all(int file, std::span<const std::byte> bytes, const std::string& name) {
  const ssize_t written = ::write(file, bytes.data(), bytes.size());
  if (written == static_cast<ssize_t>(bytes.size())) return {};
  const int reason = written < 0 ? errno : ENOSPC;
  struct stat info {};
  if (written > 0 && ::fstat(file, &info) == 0) {
    static_cast<void>(::ftruncate(file, info.st_size - written) == 0);
  }
  return fail_errno(reason, "write {}", name);
}

// What was renamed in the folder of `path` is so after a power cut, too.
Result<void> sync_folder_of(const std::string& path) {
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  const std::string name = folder.empty() ? "." : folder;
  const Socket opened(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened || ::fsync(opened.fd()) != 0) return fail_errno(errno, "sync {}", name);
  return {};
}

Result<void> read_records(int file, const std::string& name, std::vector<UsedNonce>& into) {
  std::vector<std::byte> buffer(kChunkRecords * kRecordSize);
  for (off_t offset = 0;;) {
    const ssize_t got = ::pread(file, buffer.data(), buffer.size(), offset);
    if (got < 0) return fail_errno(errno, "read {}", name);
    const std::size_t whole = static_cast<std::size_t>(got) / kRecordSize;
    for (std::size_t i = 0; i < whole; ++i) {
      const auto record = std::span<const std::byte>(buffer).subspan(i * kRecordSize, kRecordSize);
      if (load_le<std::uint64_t>(record.data() + 16) != checksum64(record.first(16))) continue;
      into.push_back({load_le<std::uint32_t>(record.data()),
                      load_le<std::uint64_t>(record.data() + 8),
                      load_le<std::uint32_t>(record.data() + 4)});
    }
    if (whole == 0) return {};
    offset += static_cast<off_t>(whole * kRecordSize);
  }
}

}  // namespace

Result<std::vector<UsedNonce>> NonceJournal::open(WallTime now) {
  const std::lock_guard guard(lock_);
  std::vector<UsedNonce> nonces;
  std::array<timespec, 2> changed{};
  for (unsigned i = 0; i < files_.size(); ++i) {
    files_[i] = Socket(::open(name_of(i).c_str(), kOpenFlags, kJournalMode));
    struct stat info {};
    if (!files_[i] || ::fstat(files_[i].fd(), &info) != 0) {
      return fail_errno(errno, "open {}", name_of(i));
    }
    if (auto read = read_records(files_[i].fd(), name_of(i), nonces); !read) return read.error();
    changed[i] = info.st_mtim;
  }
  const auto minute = std::chrono::floor<std::chrono::minutes>(now.time_since_epoch()).count();
  std::erase_if(nonces, [minute](const UsedNonce& nonce) { return nonce.forget_at <= minute; });
  std::sort(nonces.begin(), nonces.end());
  nonces.erase(std::unique(nonces.begin(), nonces.end()), nonces.end());
  // All that matters goes, whole, into the place of the older file. Without this a daemon that is
  // restarted often would never come to begin one.
  const bool second_is_newer = changed[1].tv_sec != changed[0].tv_sec
                                   ? changed[1].tv_sec > changed[0].tv_sec
                                   : changed[1].tv_nsec > changed[0].tv_nsec;
  current_ = second_is_newer ? 0 : 1;
  begun_ = now;
  if (auto put = replace(current_, nonces); !put) return put.error();
  return nonces;
}

Result<void> NonceJournal::replace(unsigned file, const std::vector<UsedNonce>& nonces) {
  const std::string aside = path_ + "-new";
  Socket made(::open(aside.c_str(), kOpenFlags | O_TRUNC, kJournalMode));
  if (!made) return fail_errno(errno, "open {}", aside);
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < nonces.size(); ++i) {
    const RecordBytes record = encode(nonces[i]);
    bytes.insert(bytes.end(), record.begin(), record.end());
    if (bytes.size() < kChunkRecords * kRecordSize && i + 1 < nonces.size()) continue;
    if (auto written = write_all(made.fd(), bytes, aside); !written) return written;
    bytes.clear();
  }
  // The name must not come to what is not there yet: the old file has nonces that still matter.
  if (::fdatasync(made.fd()) != 0) return fail_errno(errno, "sync {}", aside);
  if (::rename(aside.c_str(), name_of(file).c_str()) != 0)
    return fail_errno(errno, "rename {}", aside);
  if (auto synced = sync_folder_of(aside); !synced) return synced;
  files_[file] = std::move(made);
  return {};
}

Result<void> NonceJournal::append(const UsedNonce& nonce, WallTime now) {
  const std::lock_guard guard(lock_);
  if (now < begun_) begun_ = now;  // The clock was put back.
  if (now - begun_ > life_) {
    // What the other file holds was used before this one was begun.
    const unsigned other = 1 - current_;
    if (::ftruncate(files_[other].fd(), 0) != 0)
      return fail_errno(errno, "empty {}", name_of(other));
    current_ = other;
    begun_ = now;
  }
  return write_all(files_[current_].fd(), encode(nonce), name_of(current_));
}

}  // namespace clouddisk::auth
