#include "tests/fuzz/fuzz_target.h"

namespace clouddisk::fuzz {

std::map<std::string_view, Target>& targets() {
  static std::map<std::string_view, Target> all;
  return all;
}

}  // namespace clouddisk::fuzz
