#include "tools/net/root_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace clouddisk {

RootLock::~RootLock() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> RootLock::take(const std::string& root, bool create) {
  if (create) {
    std::error_code error;
    std::filesystem::create_directories(root, error);
    if (error) return fail_errno(error.value(), "make folder {}", root);
  }
  const std::string path = root + "/lock";
  fd_ = ::open(path.c_str(), create ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0640);
  if (fd_ < 0 && errno == ENOENT && !create) return {};
  if (fd_ < 0) return fail_errno(errno, "open {}", path);
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
