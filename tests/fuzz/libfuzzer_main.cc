// libfuzzer_main.cc: gives libFuzzer the target that the variable FUZZ_TARGET names.
#include <cstdio>
#include <cstdlib>

#include "engine/base/log.h"
#include "tests/fuzz/fuzz_target.h"

namespace {
clouddisk::fuzz::Target chosen = nullptr;
}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* name = std::getenv("FUZZ_TARGET");
  const auto found = clouddisk::fuzz::targets().find(name != nullptr ? name : "");
  if (found == clouddisk::fuzz::targets().end()) {
    std::fprintf(stderr, "set FUZZ_TARGET to one of:");
    for (const auto& [known, target] : clouddisk::fuzz::targets()) {
      std::fprintf(stderr, " %.*s", static_cast<int>(known.size()), known.data());
    }
    std::fprintf(stderr, "\n");
    std::exit(2);
  }
  chosen = found->second;
  clouddisk::set_log_level(clouddisk::LogLevel::kError);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size <= clouddisk::fuzz::kInputMax) {
    chosen({reinterpret_cast<const std::byte*>(data), size});
  }
  return 0;
}
