// test_daemon.h: the real daemon and the real command line, in a folder of its own.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/tools/e2e/nbd_client.h"
#include "tools/clouddisk/process.h"

namespace clouddisk::e2e {

using Json = nlohmann::json;
using cli::ProgramResult;

class TestDaemon {
 public:
  // The folder is removed with the object; a daemon that still runs is killed.
  TestDaemon();
  ~TestDaemon();
  TestDaemon(const TestDaemon&) = delete;
  TestDaemon& operator=(const TestDaemon&) = delete;

  const std::string& root() const { return root_; }
  std::string replica(int number) const { return root_ + "/replica-" + std::to_string(number); }
  std::string nbd_socket() const { return root_ + "/nbd.sock"; }
  pid_t pid() const { return pid_; }
  std::string log() const;

  // Runs clouddiskd --root ROOT with these arguments and waits for READY; false when it ends first.
  bool start(std::vector<std::string> arguments = {});
  // kill -9, and waits for its end.
  void kill_now();
  // SIGTERM; the exit status (128 + signal).
  int stop();
  // The same for a daemon that was told to end already.
  int wait_for_end();
  bool running();

  // clouddisk --root ROOT …
  ProgramResult cli(std::vector<std::string> arguments) const;
  // The same, which must succeed; gives its output without the newline at the end.
  std::string ok(std::vector<std::string> arguments) const;
  Json ok_json(std::vector<std::string> arguments) const;
  // The same, which must be refused with this code.
  void refused(const std::string& code, std::vector<std::string> arguments) const;

  // A disk that is made and attached; gives its id.
  std::string make_disk(int size_gib = 40) const;
  Result<NbdClient> connect(const std::string& disk) const {
    return NbdClient::connect(nbd_socket(), disk);
  }

  // "in-sync", "failed", "resyncing" of replica 1 to 3.
  std::string replica_state(int number) const;
  bool wait_for_replicas(int in_sync, double seconds = 60) const;

 private:
  std::string folder_, root_;
  pid_t pid_ = -1;
};

// A program that must succeed.
std::string run_ok(const std::vector<std::string>& command);
// Of a folder that is not there yet; the holes of its files stay holes.
void copy_folder(const std::string& from, const std::string& to);
bool installed(const std::string& program);

}  // namespace clouddisk::e2e

// A missing program fails the test: tools/packages.txt names them all.
#define CLOUDDISK_NEEDS(program) \
  ASSERT_TRUE(::clouddisk::e2e::installed(program)) << program << ": see tools/install-packages"
