#include "tools/clouddiskd/daemon.h"
#include "tools/clouddiskd/options.h"

int main(int argc, char** argv) {
  const auto parsed = clouddisk::parse_daemon_options(argc, argv);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  return clouddisk::run_daemon(std::get<clouddisk::DaemonOptions>(parsed));
}
