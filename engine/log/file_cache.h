// file_cache.h: open files of a ring's segments, bounded in number, least recently used first out.
// Thread: one ring's. A file in use stays open until its last user lets go.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "engine/ring/ring.h"
#include "engine/ring/sync.h"

namespace clouddisk {

struct FileKey {
  std::uint32_t owner = 0;  // from FileCache::new_owner()
  std::uint32_t copy = 0;
  std::uint64_t segment = 0;
  bool operator==(const FileKey&) const = default;
};

class FileCache {
 public:
  using FileRef = std::shared_ptr<File>;

  FileCache(Ring& ring, std::size_t files_max)
      : ring_(ring), files_max_(files_max), opened_(ring) {}

  std::uint32_t new_owner() { return ++last_owner_; }
  // In memory already, or null.
  FileRef find(const FileKey& key);
  // Opens the file if it is not in the cache; simultaneous calls for one key open it once.
  Task<Result<FileRef>> open(FileKey key, std::string path, OpenOptions options);
  // The key names another file from now on, or none.
  void forget(const FileKey& key);
  void forget_owner(std::uint32_t owner);
  void forget_copy(std::uint32_t copy);  // its folder is another one from now on
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    FileRef file;  // null while it is being opened
    std::list<FileKey>::iterator use;
  };
  void trim();

  Ring& ring_;
  std::size_t files_max_;
  struct Hash {
    std::size_t operator()(const FileKey& key) const noexcept {
      return (key.segment * 4 + key.copy) * 0x9e3779b97f4a7c15ULL + key.owner;
    }
  };
  std::unordered_map<FileKey, Entry, Hash> entries_;
  std::list<FileKey> used_;  // most recent first
  std::uint32_t last_owner_ = 0;
  Signal opened_;
};

}  // namespace clouddisk
