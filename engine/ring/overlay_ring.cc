#include "engine/ring/overlay_ring.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace clouddisk {
namespace {

bool is_below(const std::string& path, const std::string& folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

template <class Entries, class Visit>
void for_each_below(Entries& entries, const std::string& folder, Visit visit) {
  for (auto it = entries.lower_bound(folder + "/"); it != entries.end();) {
    auto here = it++;
    const std::string& path = [](const auto& entry) -> const std::string& {
      if constexpr (std::is_same_v<std::decay_t<decltype(entry)>, std::string>) {
        return entry;
      } else {
        return entry.first;
      }
    }(*here);
    if (!is_below(path, folder)) break;
    visit(here, path);
  }
}

}  // namespace

bool OverlayRing::shows(const std::string& path) const {
  const std::lock_guard lock(hidden_mutex_);
  if (hidden_.count(path) != 0) return false;
  for (std::size_t slash = path.rfind('/'); slash != std::string::npos && slash > 0;
       slash = path.rfind('/', slash - 1)) {
    if (hidden_.count(path.substr(0, slash)) != 0) return false;
  }
  return true;
}

void OverlayRing::hide(const std::string& path) {
  const std::lock_guard lock(hidden_mutex_);
  hidden_.insert(path);
  environments_.erase(path);
  for_each_below(environments_, path,
                 [this](auto entry, const std::string&) { environments_.erase(entry); });
}

// --- Files ---

Task<Result<OverlayRing::ContentRef>> OverlayRing::content_of(const std::string& path,
                                                              bool direct) {
  if (const auto it = files_.find(path); it != files_.end()) co_return it->second;
  if (!shows(path)) co_return fail(Errc::kNotFound, "open {}: removed", path);
  auto info = co_await below_.stat(path);
  if (!info) co_return info.error();
  if (info->is_directory) co_return fail(Errc::kInvalid, "open {}: a folder", path);
  OpenOptions options;
  options.access = Access::kRead;
  options.direct = direct;
  auto file = co_await below_.open(path, options);
  if (!file) co_return file.error();
  auto content = std::make_shared<Content>();
  content->below = std::move(*file);
  content->size = info->size;
  content->inode = info->inode;
  co_return content;
}

Task<Result<File>> OverlayRing::open(std::string path, OpenOptions options) {
  auto content = co_await content_of(path, options.direct);
  if (!content) {
    if (content.error().code != Errc::kNotFound || !options.create) co_return content.error();
    auto made = std::make_shared<Content>();
    made->inode = next_inode_++;
    content = made;
    files_[path] = made;
  } else if (options.exclusive) {
    co_return fail(Errc::kExists, "open {}: it is there", path);
  }
  // Whatever is written to it has to show to who opens it again.
  if (options.access == Access::kReadWrite) files_[path] = *content;
  const int id = next_file_++;
  open_[id] = *content;
  co_return File(this, id);
}

void OverlayRing::start_read(int file, std::uint64_t offset, std::span<std::byte> into,
                             Completion& completion) {
  const auto it = open_.find(file);
  if (it == open_.end()) return answer(completion, -EBADF);
  spawn(read_through(it->second, offset, into, completion));
}

Task<void> OverlayRing::read_through(ContentRef content, std::uint64_t offset,
                                     std::span<std::byte> into, Completion& completion) {
  std::size_t from_below = 0;
  if (content->below) {
    const int got = co_await below_.read(content->below, offset, into);
    if (got < 0) {
      completion.result = got;
      below_.schedule(completion.waiter);
      co_return;
    }
    from_below = static_cast<std::size_t>(got);
  }
  const std::uint64_t end = std::min(content->size, offset + into.size());
  const std::size_t count = end > offset ? end - offset : 0;
  if (count > from_below) std::memset(into.data() + from_below, 0, count - from_below);
  for (auto it = content->blocks.lower_bound(offset / kBlockSize);
       it != content->blocks.end() && it->first * kBlockSize < offset + count; ++it) {
    const std::uint64_t at = it->first * kBlockSize;
    const std::uint64_t begin = std::max(at, offset);
    const std::uint64_t length = std::min(at + kBlockSize, offset + count) - begin;
    std::memcpy(into.data() + (begin - offset), it->second.data() + (begin - at), length);
  }
  answer(completion, static_cast<std::int32_t>(count));
}

void OverlayRing::start_write(int file, std::uint64_t offset, std::span<const iovec> from,
                              Completion& completion) {
  const auto it = open_.find(file);
  if (it == open_.end()) return answer(completion, -EBADF);
  Content& content = *it->second;
  if (offset % kBlockSize != 0) return answer(completion, -EINVAL);
  std::uint64_t at = offset;
  for (const iovec& piece : from) {
    if (piece.iov_len % kBlockSize != 0) return answer(completion, -EINVAL);
    const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
    for (std::size_t done = 0; done < piece.iov_len; done += kBlockSize, at += kBlockSize) {
      content.blocks[at / kBlockSize].assign(bytes + done, bytes + done + kBlockSize);
    }
  }
  content.size = std::max(content.size, at);
  answer(completion, static_cast<std::int32_t>(at - offset));
}

void OverlayRing::start_datasync(int file, Completion& completion) {
  answer(completion, open_.count(file) != 0 ? 0 : -EBADF);
}

void OverlayRing::start_allocate(int file, std::uint64_t offset, std::uint64_t length,
                                 Completion& completion) {
  const auto it = open_.find(file);
  if (it == open_.end()) return answer(completion, -EBADF);
  it->second->size = std::max(it->second->size, offset + length);
  answer(completion, 0);
}

// --- Names ---

Task<Result<void>> OverlayRing::make_directories(std::string path) {
  while (path.size() > 1) {
    auto info = co_await stat(path);
    if (info) co_return Result<void>{};
    folders_.insert(path);
    path.resize(std::max<std::size_t>(path.rfind('/'), 1));
  }
  co_return Result<void>{};
}

Task<Result<void>> OverlayRing::rename(std::string from, std::string to) {
  auto content = co_await content_of(from, false);
  if (!content) co_return content.error();
  files_.erase(from);
  hide(from);
  files_[to] = *content;
  co_return Result<void>{};
}

Task<Result<void>> OverlayRing::remove(std::string path) {
  auto info = co_await stat(path);
  if (!info) co_return info.error();
  if (info->is_directory) {
    auto names = co_await list(path);
    if (!names) co_return names.error();
    if (!names->empty()) co_return fail_errno(ENOTEMPTY, "remove {}", path);
    folders_.erase(path);
  }
  files_.erase(path);
  hide(path);
  co_return Result<void>{};
}

Task<Result<void>> OverlayRing::remove_tree(std::string path) {
  files_.erase(path);
  folders_.erase(path);
  for_each_below(files_, path, [this](auto entry, const std::string&) { files_.erase(entry); });
  for_each_below(folders_, path, [this](auto entry, const std::string&) { folders_.erase(entry); });
  hide(path);
  co_return Result<void>{};
}

Task<Result<std::vector<std::string>>> OverlayRing::list(std::string directory) {
  std::set<std::string> names;
  bool there = folders_.count(directory) != 0;
  if (shows(directory)) {
    auto below = co_await below_.list(directory);
    if (!below && (below.error().code != Errc::kNotFound || !there)) co_return below.error();
    if (below) {
      there = true;
      for (const std::string& name : *below) {
        if (shows(directory + "/" + name)) names.insert(name);
      }
    }
  }
  if (!there) co_return fail(Errc::kNotFound, "list {}: removed", directory);
  const auto note = [&](auto, const std::string& path) {
    const std::size_t begin = directory.size() + 1;
    names.insert(path.substr(begin, path.find('/', begin) - begin));
  };
  for_each_below(files_, directory, note);
  for_each_below(folders_, directory, note);
  co_return std::vector<std::string>(names.begin(), names.end());
}

Task<Result<FileInfo>> OverlayRing::stat(std::string path) {
  FileInfo info;
  if (const auto it = files_.find(path); it != files_.end()) {
    info.size = it->second->size;
    info.inode = it->second->inode;
    co_return info;
  }
  if (folders_.count(path) != 0) {
    info.is_directory = true;
    co_return info;
  }
  if (!shows(path)) co_return fail(Errc::kNotFound, "stat {}: removed", path);
  co_return co_await below_.stat(path);
}

// --- Environments ---

Result<std::unique_ptr<Kv>> OverlayRing::open_kv(const std::string& directory,
                                                 const KvOptions& options) {
  namespace fs = std::filesystem;
  const bool visible = shows(directory) && shows(directory + "/data.mdb");
  std::string copy;
  {
    const std::lock_guard lock(hidden_mutex_);
    auto& known = environments_[directory];
    if (known.empty()) {
      known = scratch_ + "/" + std::to_string(next_environment_++);
      std::error_code error;
      const fs::path file = fs::path(directory) / "data.mdb";
      if (visible && fs::exists(file, error)) {
        fs::create_directories(known, error);
        if (!error) fs::copy_file(file, known + "/data.mdb", error);
        if (error) {
          const std::string where = std::exchange(known, {});
          return fail_errno(error.value(), "copy {} to {}", file.string(), where);
        }
      }
    }
    copy = known;
  }
  auto opened = below_.open_kv(copy, options);
  if (opened) return opened;
  // It is about the folder that was asked for, wherever the copy is.
  Error error = opened.error();
  if (const auto at = error.message.find(copy); at != std::string::npos) {
    error.message.replace(at, copy.size(), directory);
  }
  return error;
}

}  // namespace clouddisk
