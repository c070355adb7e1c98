// replay_main.cc: runs inputs through their target, and then, with --seconds, inputs like them. A
// crash shows the input's name on the last line before it; one that was made up is kept in a file.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/mutate.h"

namespace fs = std::filesystem;

namespace clouddisk::fuzz {
namespace {

std::vector<fs::path> files_of(const std::vector<std::string>& names) {
  std::vector<fs::path> files;
  for (const std::string& name : names) {
    if (!fs::is_directory(name)) {
      files.emplace_back(name);
      continue;
    }
    for (const auto& entry : fs::directory_iterator(name)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Of the same files and seed the same inputs, one after the other.
void make_up(Target target, const std::string& name, const std::vector<Bytes>& inputs,
             std::uint64_t seed, double seconds) {
  Random random(seed);
  const std::string kept = fmt::format("fuzz-{}-{}", name, seed);
  std::printf("made up with --seed %llu; one that fails is kept in %s\n",
              static_cast<unsigned long long>(seed), fs::absolute(kept).c_str());
  std::fflush(stdout);
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t count = 0;
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() <
         seconds) {
    const Bytes input = mutated(inputs, random);
    std::ofstream(kept, std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()),
               static_cast<std::streamsize>(input.size()));
    target(input);
    ++count;
  }
  fs::remove(kept);
  std::printf("%llu inputs were made up\n", static_cast<unsigned long long>(count));
}

int replay(const std::string& name, const std::vector<std::string>& names, std::uint64_t seed,
           double seconds) {
  const Target target = targets().at(name);
  std::vector<Bytes> inputs;
  for (const fs::path& path : files_of(names)) {
    std::ifstream file(path, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    if (!file) {
      std::fprintf(stderr, "%s can't be read\n", path.c_str());
      return 1;
    }
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);
    const auto bytes = std::as_bytes(std::span(content));
    target(bytes);
    inputs.emplace_back(bytes.begin(), bytes.end());
  }
  target({});
  std::printf("%zu inputs of %s\n", inputs.size(), name.c_str());
  if (inputs.empty()) return 1;
  if (seconds > 0) make_up(target, name, inputs, seed, seconds);
  return 0;
}

}  // namespace
}  // namespace clouddisk::fuzz

int main(int argc, char** argv) {
  using namespace clouddisk::fuzz;
  CLI::App app("Runs inputs through a fuzz target");
  std::vector<std::string> known;
  for (const auto& [name, target] : targets()) known.emplace_back(name);
  std::string name;
  std::vector<std::string> inputs;
  double seconds = 0;
  std::uint64_t seed = std::random_device()();
  app.add_option("target", name, "Which one")->required()->check(CLI::IsMember(known));
  app.add_option("inputs", inputs, "Files, or folders of them")
      ->required()
      ->check(CLI::ExistingPath);
  app.add_option("--seconds", seconds, "Then inputs like these, for so long");
  app.add_option("--seed", seed, "Of those; else a new one, which is printed");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  clouddisk::set_log_level(clouddisk::LogLevel::kError);
  return replay(name, inputs, seed, seconds);
}
