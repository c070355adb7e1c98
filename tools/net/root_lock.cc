#include "tools/net/root_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace clouddisk {

namespace {

std::string user_text(uid_t id) {
  const passwd* user = ::getpwuid(id);
  return fmt::format("{} (uid {})", user != nullptr ? user->pw_name : "a user without a name", id);
}

// With who this is and whose it is, where that is why.
Error refused(Error error, const std::string& path) {
  if (error.code != Errc::kPermission) return error;
  struct stat info {};
  std::filesystem::path there = path;
  while (::stat(there.c_str(), &info) != 0) {
    if (there == there.parent_path()) return error;
    there = there.parent_path();
  }
  return fail(error.code, "{}; this runs as {}, and {} belongs to {}, mode {:04o}", error.message,
              user_text(::geteuid()), there.string(), user_text(info.st_uid), info.st_mode & 07777);
}

}  // namespace

RootLock::~RootLock() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> RootLock::take(const std::string& root, bool create) {
  if (create) {
    std::error_code error;
    std::filesystem::create_directories(root, error);
    if (error) return refused(fail_errno(error.value(), "make folder {}", root), root);
  }
  const std::string path = root + "/lock";
  fd_ = ::open(path.c_str(), create ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0640);
  if (fd_ < 0 && errno == ENOENT && !create) return {};
  if (fd_ < 0) return refused(fail_errno(errno, "open {}", path), path);
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno(errno, "lock {}", path);
    return fail(Errc::kBusy, "another program holds {}", root);
  }
  return {};
}

Result<void> RootLock::take_folder(const std::string& folder) {
  fd_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd_ < 0) return {};
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return {};
  return fail(Errc::kBusy, "another program holds {}", folder);
}

}  // namespace clouddisk
