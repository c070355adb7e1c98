#include "engine/base/result.h"

#include <cerrno>
#include <system_error>

namespace clouddisk {

std::string_view name(Errc code) {
  switch (code) {
    case Errc::kIo:
      return "io";
    case Errc::kCorrupt:
      return "corrupt";
    case Errc::kNoSpace:
      return "no-space";
    case Errc::kReplicasLost:
      return "replicas-lost";
    case Errc::kInvalid:
      return "invalid";
    case Errc::kNotFound:
      return "not-found";
    case Errc::kExists:
      return "exists";
    case Errc::kBusy:
      return "busy";
    case Errc::kReadOnly:
      return "read-only";
    case Errc::kPermission:
      return "permission";
    case Errc::kTimedOut:
      return "timed-out";
    case Errc::kUnsupported:
      return "unsupported";
    case Errc::kShutdown:
      return "shutdown";
    case Errc::kLimit:
      return "limit";
  }
  return "unknown";
}

Errc errc_from_errno(int value) {
  switch (value) {
    case ENOSPC:
    case EDQUOT:
      return Errc::kNoSpace;
    case ENOENT:
    case ENOTDIR:
      return Errc::kNotFound;
    case EEXIST:
      return Errc::kExists;
    case EBUSY:
    case EADDRINUSE:
    case EAGAIN:
      return Errc::kBusy;
    case EROFS:
      return Errc::kReadOnly;
    case EPERM:
    case EACCES:
      return Errc::kPermission;
    case ETIMEDOUT:
    case ETIME:
      return Errc::kTimedOut;
    case EINVAL:
      return Errc::kInvalid;
    case ENOSYS:
    case EOPNOTSUPP:
      return Errc::kUnsupported;
    case ECANCELED:
      return Errc::kShutdown;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return Errc::kLimit;
    default:
      return Errc::kIo;
  }
}

std::string errno_text(int error_number) {
  return std::generic_category().message(error_number);
}

}  // namespace clouddisk
