#include "engine/monitor/event_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/ring/listener.h"

namespace clouddisk {
namespace {

constexpr std::size_t kEventDigits = 16;
constexpr mode_t kJournalFileMode = 0640;

// What was written in part is taken back: the next line must begin at a line's beginning.
Result<void> write_and_sync(int file, std::string_view text, const std::string& path) {
  const ssize_t put = ::write(file, text.data(), text.size());
  if (put != static_cast<ssize_t>(text.size())) {
    const int reason = put < 0 ? errno : ENOSPC;
    struct stat info {};
    if (put > 0 && ::fstat(file, &info) == 0) {
      static_cast<void>(::ftruncate(file, info.st_size - put) == 0);
    }
    return fail_errno(reason, "write {}", path);
  }
  if (::fdatasync(file) != 0) return fail_errno(errno, "sync {}", path);
  return {};
}

std::string encode_events(std::span<const DiskEvent> events) {
  std::string text;
  for (const DiskEvent& event : events) text += encode_event(event);
  return text;
}

}  // namespace

std::optional<EventType> parse_event_type(std::string_view name) {
  for (const EventKind& kind : kEventKinds) {
    if (kind.name == name) return kind.type;
  }
  return std::nullopt;
}

std::string encode_event(const DiskEvent& event) {
  const nlohmann::json json = {{"id", event.id},
                               {"disk", event.disk_id},
                               {"type", kind_of(event.type).name},
                               {"begun", event.created.time_since_epoch().count()},
                               {"ended", event.ended.time_since_epoch().count()},
                               {"text", event.text}};
  const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return fmt::format("{:016x} {}\n", checksum64(as_bytes(text)), text);
}

std::optional<DiskEvent> decode_event(std::string_view line) {
  if (line.size() <= kEventDigits || line[kEventDigits] != ' ') return std::nullopt;
  std::uint64_t checksum = 0;
  const auto parsed = std::from_chars(line.data(), line.data() + kEventDigits, checksum, 16);
  if (parsed.ec != std::errc{} || parsed.ptr != line.data() + kEventDigits) return std::nullopt;
  const std::string_view text = line.substr(kEventDigits + 1);
  if (checksum != checksum64(as_bytes(text))) return std::nullopt;
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  try {
    const auto type = parse_event_type(json.at("type").get<std::string>());
    if (!type) return std::nullopt;  // of a newer clouddisk
    if (!json.at("begun").is_number_integer() || !json.at("ended").is_number_integer()) {
      return std::nullopt;
    }
    DiskEvent event;
    event.id = json.at("id").get<std::string>();
    event.disk_id = json.at("disk").get<std::string>();
    event.type = *type;
    event.created = WallTime(Duration(json.at("begun").get<std::int64_t>()));
    event.ended = WallTime(Duration(json.at("ended").get<std::int64_t>()));
    event.text = json.at("text").get<std::string>();
    return event;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

Result<std::vector<DiskEvent>> EventJournal::read() {
  const Socket file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return std::vector<DiskEvent>{};
  if (!file) return fail_errno(errno, "open {}", path_);
  std::string text;
  std::array<char, 65536> chunk;
  while (true) {
    const ssize_t got = ::read(file.fd(), chunk.data(), chunk.size());
    if (got < 0) return fail_errno(errno, "read {}", path_);
    if (got == 0) break;
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  std::map<std::string, DiskEvent> last;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (auto event = decode_event(std::string_view(text).substr(at, end - at))) {
      std::string id = event->id;
      last.insert_or_assign(std::move(id), std::move(*event));
    }
    at = end + 1;
  }
  std::vector<DiskEvent> events;
  for (auto& [id, event] : last) events.push_back(std::move(event));
  std::sort(events.begin(), events.end(), [](const DiskEvent& a, const DiskEvent& b) {
    return a.created != b.created ? a.created < b.created : a.id < b.id;
  });
  return events;
}

Result<void> EventJournal::append(std::span<const DiskEvent> events) {
  const Socket file(
      ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, kJournalFileMode));
  if (!file) return fail_errno(errno, "open {}", path_);
  std::string text = encode_events(events);
  // A line that a crash cut off must not take the next one with it.
  struct stat info {};
  char last = '\n';
  if (::fstat(file.fd(), &info) == 0 && info.st_size > 0 &&
      ::pread(file.fd(), &last, 1, info.st_size - 1) == 1 && last != '\n') {
    text.insert(text.begin(), '\n');
  }
  return write_and_sync(file.fd(), text, path_);
}

Result<void> EventJournal::replace(std::span<const DiskEvent> events) {
  const std::string aside = path_ + ".new";
  const Socket file(
      ::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kJournalFileMode));
  if (!file) return fail_errno(errno, "open {}", aside);
  if (auto put = write_and_sync(file.fd(), encode_events(events), aside); !put) return put;
  if (std::rename(aside.c_str(), path_.c_str()) != 0) return fail_errno(errno, "rename {}", aside);
  return {};
}

}  // namespace clouddisk
