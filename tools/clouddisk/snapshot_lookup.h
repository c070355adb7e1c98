// snapshot_lookup.h: one snapshot, by id, for the commands that need to see it.
#pragma once

#include <string>

#include "tools/clouddisk/session.h"

namespace clouddisk::cli {

// As DescribeSnapshots has it. InvalidSnapshotId.NotFound: there is none.
Outcome<Json> describe_snapshot(const ApiClient& api, const std::string& id);

// Returns when it is accomplished. CreateSnapshot.Failed: it never will be.
Outcome<Json> wait_until_captured(const ApiClient& api, const std::string& id);

}  // namespace clouddisk::cli
