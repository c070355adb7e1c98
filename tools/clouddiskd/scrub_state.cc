#include "tools/clouddiskd/scrub_state.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace clouddisk {
namespace {

using Json = nlohmann::json;

Json counts_json(const std::array<ScrubCounts, kReplicaCount>& counts) {
  Json list = Json::array();
  for (const ScrubCounts& one : counts) {
    list.push_back({one.checked_bytes, one.bad_blocks, one.mended_blocks});
  }
  return list;
}

std::array<ScrubCounts, kReplicaCount> counts_from(const Json& list) {
  std::array<ScrubCounts, kReplicaCount> counts;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    counts[i] = {list.at(i).at(0).get<std::uint64_t>(), list.at(i).at(1).get<std::uint64_t>(),
                 list.at(i).at(2).get<std::uint64_t>()};
  }
  return counts;
}

Json pass_json(const ScrubPass& pass) {
  Json losses = Json::array();
  for (const ScrubLoss& loss : pass.losses) {
    losses.push_back({loss.storage, loss.segment, loss.lba, loss.blocks});
  }
  return {{"begun", pass.begun_ns},
          {"ended", pass.ended_ns},
          {"replicas", counts_json(pass.replicas)},
          {"index_bytes", pass.index_bytes},
          {"indexes_damaged", pass.indexes_damaged},
          {"unread_storages", pass.unread_storages},
          {"lost_blocks", pass.lost_blocks},
          {"losses", std::move(losses)}};
}

ScrubPass pass_from(const Json& json) {
  ScrubPass pass;
  pass.begun_ns = json.at("begun").get<std::int64_t>();
  pass.ended_ns = json.at("ended").get<std::int64_t>();
  pass.replicas = counts_from(json.at("replicas"));
  pass.index_bytes = json.at("index_bytes").get<std::uint64_t>();
  pass.indexes_damaged = json.at("indexes_damaged").get<std::uint64_t>();
  pass.unread_storages = json.value("unread_storages", std::uint64_t{0});
  pass.lost_blocks = json.at("lost_blocks").get<std::uint64_t>();
  for (const Json& loss : json.at("losses")) {
    pass.losses.push_back({loss.at(0).get<std::string>(), loss.at(1).get<std::uint64_t>(),
                           loss.at(2).get<std::uint64_t>(), loss.at(3).get<std::uint64_t>()});
  }
  return pass;
}

}  // namespace

std::string to_json(const ScrubState& state) {
  Json json = {{"version", 1},
               {"under_way", state.under_way},
               {"stopped", state.stopped},
               {"stopped_ns", state.stopped_ns},
               {"complete_ns", state.complete_ns},
               {"storage", state.storage},
               {"segment", state.segment},
               {"pass", pass_json(state.pass)},
               {"total", counts_json(state.total)},
               {"total_lost_blocks", state.total_lost_blocks}};
  if (state.last) json["last"] = pass_json(*state.last);
  return json.dump();
}

Result<ScrubState> scrub_state_from(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("version").get<int>() != 1) return fail(Errc::kUnsupported, "another version");
    ScrubState state;
    state.under_way = json.at("under_way").get<bool>();
    state.stopped = json.at("stopped").get<bool>();
    state.stopped_ns = json.value("stopped_ns", std::int64_t{0});
    state.storage = json.at("storage").get<std::string>();
    state.segment = json.at("segment").get<std::uint64_t>();
    state.pass = pass_from(json.at("pass"));
    if (json.contains("last")) state.last = pass_from(json.at("last"));
    state.complete_ns =
        json.value("complete_ns", state.last ? state.last->ended_ns : std::int64_t{0});
    state.total = counts_from(json.at("total"));
    state.total_lost_blocks = json.at("total_lost_blocks").get<std::uint64_t>();
    return state;
  } catch (const Json::exception& broken) {
    return fail(Errc::kCorrupt, "{}", broken.what());
  }
}

Result<ScrubState> load_scrub_state(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(Errc::kNotFound, "{}: none", path);
  std::stringstream text;
  text << file.rdbuf();
  return scrub_state_from(text.str());
}

Result<void> save_scrub_state(const std::string& path, const ScrubState& state) {
  const std::string text = to_json(state);
  const std::string next = path + ".new";
  const int fd = ::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd < 0) return fail_errno(errno, "open {}", next);
  const auto written = ::write(fd, text.data(), text.size());
  const int problem = written == static_cast<ssize_t>(text.size()) ? 0 : errno;
  const int synced = ::fdatasync(fd);
  ::close(fd);
  if (problem != 0 || synced != 0 || written < 0) return fail(Errc::kIo, "write {}", next);
  if (std::rename(next.c_str(), path.c_str()) != 0) return fail_errno(errno, "rename {}", next);
  return {};
}

}  // namespace clouddisk
