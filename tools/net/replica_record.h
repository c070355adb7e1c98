// replica_record.h: which replica folders were replaced by others (`replica replace`), so that a
// restart with the same command line finds them: <root>/replicas, a small JSON file.
//
// An entry holds as long as the command line names the folder that was replaced. A command line
// that names the new folder needs none; one that names a third is believed.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/log/replica_set.h"

namespace clouddisk {

using ReplicaFolders = std::array<std::string, kReplicaCount>;

struct Replacement {
  unsigned index = 0;      // from 0
  std::string configured;  // what the command line, or its default, says
  std::string folder;      // what stands in its place
};

// Block. No file: no replacement. kCorrupt: it can't be read as one; what to do is in the message.
Result<std::vector<Replacement>> load_replacements(const std::string& path);
Result<void> save_replacements(const std::string& path, const std::vector<Replacement>& list);

// The folders to use.
ReplicaFolders with_replacements(ReplicaFolders configured, const std::vector<Replacement>& list);

// In a folder that was replaced: a file that keeps it from being taken for a replica again.
inline constexpr const char* kReplacedMark = "replaced";
// In a folder that is to be one: who claimed it.
inline constexpr const char* kClaimMark = "claimed";
Result<void> write_mark(const std::string& folder, const char* mark, const std::string& text);

// Whether a folder may become replica `index`: made if missing, empty but for lost+found and a
// claim of ours, writable, no part of the root or of another replica, and with `bytes` of room.
// Blocks.
Result<void> claim_folder(const std::string& folder, const std::string& claim,
                          const std::vector<std::string>& others, std::uint64_t bytes);

}  // namespace clouddisk
