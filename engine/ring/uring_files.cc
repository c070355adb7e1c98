// uring_files.cc: the folder operations of UringRing. They run on workers: few, and some of them
// (rename, directory sync) wait for a journal commit.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "engine/ring/uring_ring.h"

namespace clouddisk {
namespace {

Result<int> open_now(const std::string& path, const OpenOptions& options) {
  int flags = O_CLOEXEC | (options.access == Access::kRead ? O_RDONLY : O_RDWR);
  if (options.create) flags |= O_CREAT;
  if (options.exclusive) flags |= O_EXCL;
  int fd = ::open(path.c_str(), flags | (options.direct ? O_DIRECT : 0), 0640);
  if (fd < 0 && errno == EINVAL && options.direct) {
    // A filesystem without direct I/O (tmpfs, some overlays). Slower, and just as durable: flushes
    // still go through fdatasync.
    fd = ::open(path.c_str(), flags & ~O_EXCL, 0640);
  }
  if (fd < 0) return fail_errno(errno, "open {}", path);
  return fd;
}

Result<std::vector<std::string>> list_now(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return fail_errno(error.value(), "list {}", directory);
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> sync_directory_now(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "open folder {}", path);
  const int rc = ::fsync(fd);
  const int saved = errno;
  ::close(fd);
  if (rc != 0) return fail_errno(saved, "fsync folder {}", path);
  return {};
}

}  // namespace

Task<Result<File>> UringRing::open(std::string path, OpenOptions options) {
  auto fd = co_await blocking([&path, options] { return open_now(path, options); });
  if (!fd) co_return fd.error();
  register_file(*fd);
  co_return File(this, *fd);
}

Task<Result<void>> UringRing::make_directories(std::string path) {
  co_return co_await blocking([&path]() -> Result<void> {
    if (::mkdir(path.c_str(), 0777) == 0) return {};  // As nearly always: its parent is there.
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return fail_errno(error.value(), "make folder {}", path);
    return {};
  });
}

Task<Result<void>> UringRing::rename(std::string from, std::string to) {
  co_return co_await blocking([&from, &to]() -> Result<void> {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      return fail_errno(errno, "rename {} to {}", from, to);
    }
    return {};
  });
}

Task<Result<void>> UringRing::remove(std::string path) {
  co_return co_await blocking([&path]() -> Result<void> {
    if (::unlink(path.c_str()) == 0) return {};
    if (errno == EISDIR && ::rmdir(path.c_str()) == 0) return {};
    return fail_errno(errno, "remove {}", path);
  });
}

Task<Result<void>> UringRing::remove_tree(std::string path) {
  co_return co_await blocking([&path]() -> Result<void> {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return fail_errno(error.value(), "remove {}", path);
    return {};
  });
}

Task<Result<std::vector<std::string>>> UringRing::list(std::string directory) {
  co_return co_await blocking([&directory] { return list_now(directory); });
}

Task<Result<void>> UringRing::sync_directory_alone(std::string path) {
  co_return co_await blocking([&path] { return sync_directory_now(path); });
}

Task<Result<void>> UringRing::sync_directory(std::string path) {
  co_return co_await folder_syncs_.sync(std::move(path));
}

Task<Result<FileInfo>> UringRing::stat(std::string path) {
  co_return co_await blocking([&path]() -> Result<FileInfo> {
    struct ::stat info {};
    if (::stat(path.c_str(), &info) != 0) return fail_errno(errno, "stat {}", path);
    return FileInfo{S_ISDIR(info.st_mode), static_cast<std::uint64_t>(info.st_size),
                    static_cast<std::uint64_t>(info.st_dev),
                    static_cast<std::uint64_t>(info.st_ino)};
  });
}

Task<Result<SpaceInfo>> UringRing::space(std::string path) {
  co_return co_await blocking([&path]() -> Result<SpaceInfo> {
    struct ::statvfs info {};
    if (::statvfs(path.c_str(), &info) != 0) return fail_errno(errno, "statvfs {}", path);
    return SpaceInfo{info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize};
  });
}

}  // namespace clouddisk
