// daemon.h: puts the parts together, serves until told to stop, and takes them down in order.
#pragma once

#include "tools/clouddiskd/options.h"

namespace clouddisk {

// Runs on the calling thread until SIGTERM or SIGINT; a second signal ends the process at once.
// Prints READY on stdout when it serves. The result is the exit status: 0, or 1 after a message.
int run_daemon(const DaemonOptions& options);

}  // namespace clouddisk
