#include "tools/net/replica_record.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/base/log.h"

namespace clouddisk {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Result<void> sync_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "open {}", folder);
  const int rc = ::fsync(fd);
  ::close(fd);
  if (rc != 0) return fail_errno(errno, "fsync {}", folder);
  return {};
}

// Whole or not at all, and durable on return.
Result<void> write_durably(const std::string& path, const std::string& text) {
  const std::string next = path + ".new";
  const int fd = ::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd < 0) return fail_errno(errno, "open {}", next);
  const auto written = ::write(fd, text.data(), text.size());
  const int write_error = errno;
  const int synced = ::fsync(fd);
  const int sync_error = errno;
  ::close(fd);
  if (written != static_cast<ssize_t>(text.size())) {
    return fail_errno(written < 0 ? write_error : ENOSPC, "write {}", next);
  }
  if (synced != 0) return fail_errno(sync_error, "fsync {}", next);
  if (std::rename(next.c_str(), path.c_str()) != 0) return fail_errno(errno, "rename {}", next);
  return sync_folder(fs::path(path).parent_path().string());
}

std::string read_whole(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Whether one of the two is the other, or lies in it.
bool overlap(const fs::path& a, const fs::path& b) {
  const auto inside = [](const fs::path& inner, const fs::path& outer) {
    auto at = inner.begin();
    for (const fs::path& part : outer) {
      if (at == inner.end() || *at != part) return false;
      ++at;
    }
    return true;
  };
  return inside(a, b) || inside(b, a);
}

}  // namespace

Result<std::vector<Replacement>> load_replacements(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::vector<Replacement>{};
  try {
    std::vector<Replacement> list;
    const Json json = Json::parse(read_whole(path));
    for (const Json& entry : json.at("replaced")) {
      const auto number = entry.at("replica").get<unsigned>();
      if (number < 1 || number > kReplicaCount) throw std::out_of_range("replica");
      list.push_back({number - 1, entry.at("configured").get<std::string>(),
                      entry.at("folder").get<std::string>()});
    }
    return list;
  } catch (const std::exception& broken) {
    return fail(Errc::kCorrupt,
                "{} is damaged ({}): it says which replica folders were replaced; name the folders "
                "in use with --replica and remove it",
                path, broken.what());
  }
}

Result<void> save_replacements(const std::string& path, const std::vector<Replacement>& list) {
  Json entries = Json::array();
  for (const Replacement& one : list) {
    entries.push_back(
        {{"replica", one.index + 1}, {"configured", one.configured}, {"folder", one.folder}});
  }
  return write_durably(path, Json{{"version", 1}, {"replaced", std::move(entries)}}.dump(2) + "\n");
}

ReplicaFolders with_replacements(ReplicaFolders configured, const std::vector<Replacement>& list) {
  ReplicaFolders folders = configured;
  for (const Replacement& one : list) {
    if (configured[one.index] == one.configured) {
      folders[one.index] = one.folder;
    } else if (configured[one.index] != one.folder) {
      log(LogLevel::kWarning, "replicas",
          "replica {} is {}, as the command line says; {} had been replaced by {}", one.index + 1,
          configured[one.index], one.configured, one.folder);
    }
  }
  return folders;
}

Result<void> write_mark(const std::string& folder, const char* mark, const std::string& text) {
  return write_durably(folder + "/" + mark, text);
}

Result<void> claim_folder(const std::string& folder, const std::string& claim,
                          const std::vector<std::string>& others, std::uint64_t bytes) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(folder, error);
  if (error) return fail_errno(error.value(), "{}", folder);
  for (const std::string& other : others) {
    if (overlap(whole, fs::weakly_canonical(other, error))) {
      return fail(Errc::kInvalid, "{} overlaps {}, which is in use: choose a folder of its own",
                  folder, other);
    }
  }
  fs::create_directories(folder, error);
  if (error) return fail_errno(error.value(), "make folder {}", folder);
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name == "lost+found") continue;
    if (name == std::string(kClaimMark) + ".new") continue;
    if (name == kClaimMark && read_whole(entry.path().string()) == claim) continue;
    if (name == "superblock") {
      return fail(Errc::kExists, "{} holds a replica of this or another root: empty it first",
                  folder);
    }
    return fail(Errc::kExists, "{} is not empty: it holds {}", folder, name);
  }
  if (error) return fail_errno(error.value(), "list {}", folder);
  struct statvfs space {};
  if (::statvfs(folder.c_str(), &space) != 0) return fail_errno(errno, "statvfs {}", folder);
  const std::uint64_t room = std::uint64_t{space.f_bavail} * space.f_frsize;
  if (room < bytes) {
    return fail(Errc::kNoSpace, "{} has room for {}, and {} are needed", folder, format_bytes(room),
                format_bytes(bytes));
  }
  if (auto marked = write_mark(folder, kClaimMark, claim); !marked) return marked;
  // The names of the folders made on the way to it.
  for (fs::path at = whole; at.has_parent_path() && at != at.parent_path(); at = at.parent_path()) {
    static_cast<void>(sync_folder(at.parent_path().string()));
  }
  return {};
}

}  // namespace clouddisk
