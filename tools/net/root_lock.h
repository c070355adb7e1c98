// root_lock.h: a root belongs to one program at a time: a daemon, or a check of a stopped one; and
// so does each replica folder, which may lie anywhere. Held as long as the object lives, and no
// longer than the process, even after kill -9.
#pragma once

#include <string>
#include <utility>

#include "engine/base/result.h"

namespace clouddisk {

class RootLock {
 public:
  RootLock() = default;
  RootLock(RootLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RootLock& operator=(RootLock&&) = delete;
  ~RootLock();

  // kBusy: somebody holds it. `create`: makes the folder and the file where they are missing;
  // without it, no file means that nobody ever served the root, and nothing is changed.
  Result<void> take(const std::string& root, bool create);
  // The same of a replica folder, by the folder itself: nothing is made in it. One that can't be
  // opened or locked at all (its device is gone) is no obstacle: who uses it finds out why.
  Result<void> take_folder(const std::string& folder);

 private:
  int fd_ = -1;
};

}  // namespace clouddisk
