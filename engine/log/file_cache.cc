#include "engine/log/file_cache.h"

namespace clouddisk {

FileCache::FileRef FileCache::find(const FileKey& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second.file == nullptr) return nullptr;
  used_.splice(used_.begin(), used_, it->second.use);
  return it->second.file;
}

Task<Result<FileCache::FileRef>> FileCache::open(FileKey key, std::string path,
                                                 OpenOptions options) {
  while (true) {
    if (FileRef file = find(key)) co_return file;
    if (entries_.count(key) == 0) break;
    co_await opened_.wait();  // Somebody else is opening it.
  }
  used_.push_front(key);
  entries_[key] = Entry{nullptr, used_.begin()};
  auto file = co_await ring_.open(path, options);
  opened_.wake_all();
  const auto it = entries_.find(key);
  if (!file) {
    if (it != entries_.end()) {
      used_.erase(it->second.use);
      entries_.erase(it);
    }
    co_return file.error();
  }
  auto shared = std::make_shared<File>(std::move(*file));
  if (it != entries_.end()) it->second.file = shared;  // Else it was forgotten meanwhile.
  trim();
  co_return shared;
}

void FileCache::forget(const FileKey& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  used_.erase(it->second.use);
  entries_.erase(it);
}

void FileCache::forget_owner(std::uint32_t owner) {
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (it->first.owner == owner) {
      used_.erase(it->second.use);
      it = entries_.erase(it);
    } else {
      ++it;
    }
  }
}

void FileCache::forget_copy(std::uint32_t copy) {
  std::erase_if(entries_, [this, copy](const auto& entry) {
    if (entry.first.copy != copy) return false;
    used_.erase(entry.second.use);
    return true;
  });
}

void FileCache::trim() {
  for (auto it = used_.end(); entries_.size() > files_max_ && it != used_.begin();) {
    --it;
    const auto entry = entries_.find(*it);
    if (entry->second.file == nullptr) continue;
    entries_.erase(entry);
    it = used_.erase(it);
  }
}

}  // namespace clouddisk
