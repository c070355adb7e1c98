#include <csignal>

#include "tools/clouddisk/session.h"

int main(int argc, char** argv) {
  // A daemon that goes away is an error to report, not a signal to die of.
  std::signal(SIGPIPE, SIG_IGN);
  return clouddisk::cli::run_command_line(argc, argv);
}
