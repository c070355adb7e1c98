// replay_main.cc: runs inputs through their target: fuzz_replay TARGET FILE-OR-FOLDER...
// A crash shows the input's name on the last line before it.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/base/log.h"
#include "tests/fuzz/fuzz_target.h"

namespace fs = std::filesystem;
using clouddisk::fuzz::targets;

namespace {

bool replay(clouddisk::fuzz::Target target, const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  if (!file) {
    std::fprintf(stderr, "%s can't be read\n", path.c_str());
    return false;
  }
  std::printf("%s\n", path.c_str());
  std::fflush(stdout);
  target(std::as_bytes(std::span(content)));
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || targets().count(argv[1]) == 0) {
    std::fprintf(stderr, "usage: fuzz_replay TARGET FILE-OR-FOLDER...\ntargets:");
    for (const auto& [name, target] : targets()) std::fprintf(stderr, " %s", name.data());
    std::fprintf(stderr, "\n");
    return 2;
  }
  clouddisk::set_log_level(clouddisk::LogLevel::kError);
  const clouddisk::fuzz::Target target = targets().at(argv[1]);
  unsigned count = 0;
  for (int i = 2; i < argc; ++i) {
    if (fs::is_directory(argv[i])) {
      for (const auto& entry : fs::directory_iterator(argv[i])) {
        if (!replay(target, entry.path())) return 1;
        ++count;
      }
    } else if (replay(target, argv[i])) {
      ++count;
    } else {
      return 1;
    }
  }
  target({});
  std::printf("%u inputs of %s\n", count, argv[1]);
  return count > 0 ? 0 : 1;
}
