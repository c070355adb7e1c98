// check.h: our own bugs stop the process, in release builds too. What may happen in the world is a
// Result (result.h), never a CHECK.
#pragma once

namespace clouddisk {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace clouddisk

#define CHECK(condition)                                         \
  do {                                                           \
    if (!(condition)) [[unlikely]]                               \
      ::clouddisk::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
