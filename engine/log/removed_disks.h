// removed_disks.h: takes a disk's folder away at once, however much is in it: unless it is empty,
// it is renamed to <replica>/removed/, and its files go in the background. A large disk has
// thousands of files, and whoever deletes it or rolls it back again does not wait for them. That it
// is gone from disks/ is durable; a power loss may leave its space to the file system's check.
//
// Thread: set_aside() any ring's; purge_removed() one at a time.
#pragma once

#include <functional>
#include <string>

#include "engine/ring/ring.h"

namespace clouddisk {

// Fine if the disk has no folder there. Where it can't be renamed it is removed at once.
Task<Result<void>> set_aside(Ring& ring, std::string replica_folder, std::string disk_id);

// Removes what was set aside, by now or before a restart, a file at a time until `stop` says so.
// What can't be removed does not keep the rest, and is tried again by the next call.
Task<Result<void>> purge_removed(Ring& ring, std::string replica_folder,
                                 std::function<bool()> stop);

}  // namespace clouddisk
