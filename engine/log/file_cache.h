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

class FileCache {
 public:
  using FileRef = std::shared_ptr<File>;

  FileCache(Ring& ring, std::size_t files_max)
      : ring_(ring), files_max_(files_max), opened_(ring) {}

  // In memory already, or null.
  FileRef find(const std::string& path);
  // Opens the file if it is not in the cache; simultaneous calls for one path open it once.
  Task<Result<FileRef>> open(std::string path, OpenOptions options);
  // The path names another file from now on, or none.
  void forget(const std::string& path);
  void forget_under(const std::string& prefix);
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    FileRef file;  // null while it is being opened
    std::list<std::string>::iterator use;
  };
  void trim();

  Ring& ring_;
  std::size_t files_max_;
  std::unordered_map<std::string, Entry> entries_;
  std::list<std::string> used_;  // most recent first
  Signal opened_;
};

}  // namespace clouddisk
