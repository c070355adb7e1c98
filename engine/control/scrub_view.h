// scrub_view.h: what DescribeReplicas tells of scrub.
#pragma once

#include "engine/control/outcome.h"
#include "engine/control/scrub_status.h"

namespace clouddisk {

Json scrub_of_replica(const ScrubStatus& scrub, unsigned index);

}  // namespace clouddisk
