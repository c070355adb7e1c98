// action_client.h: a client of the action API on TCP that signs, waits as real ones do, and notes
// how long each action takes to its answer.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "tests/load/measure.h"
#include "tests/tools/e2e/tcp_client.h"

namespace clouddisk::load {

// What each client measured, by action. Any thread.
class ActionTimes {
 public:
  void add(const std::map<std::string, Latencies>& times) {
    const std::lock_guard guard(mutex_);
    for (const auto& [action, latencies] : times) {
      auto& into = times_[action];
      into.seconds.insert(into.seconds.end(), latencies.seconds.begin(), latencies.seconds.end());
      into.failed += latencies.failed;
    }
  }
  std::map<std::string, Latencies>& all() { return times_; }

 private:
  std::mutex mutex_;
  std::map<std::string, Latencies> times_;
};

// One thread's.
class ActionClient {
 public:
  ActionClient(std::uint16_t port, auth::Credentials key)
      : client_(e2e::TcpClient::connect(port)), key_(std::move(key)) {}

  // A disk's life, with an instance that seldom changes; again until the deadline. What it made is
  // gone at the end.
  void live_with_disks(Clock::time_point deadline);
  // What is asked for less often: policies, images, rollbacks, groups, tasks.
  void live_otherwise(Clock::time_point deadline);

  const std::map<std::string, Latencies>& times() const { return times_; }
  // Something took a minute, or was not what it should be.
  bool lost() const { return lost_ || !client_; }

 private:
  using Json = e2e::Json;
  using Params = clouddisk::Params;

  Json call(const std::string& action, Params params);
  // Asks until the first of `list` has the status.
  void await(const std::string& action, const Params& which, const Json::json_pointer& list,
             const std::string& status);
  void await_disk(const std::string& disk, const std::string& status);
  void await_snapshot(const std::string& snapshot);
  void await_instance(const std::string& status);
  void await_image(const std::string& image);
  std::string make_disk();
  std::string take_snapshot(const std::string& disk);
  void make_instance();
  void remove_instance();
  void use_policy(const std::string& disk);
  void tag(const std::string& disk);
  void roll_back(const std::string& disk);
  void use_image();

  std::optional<e2e::TcpClient> client_;
  auth::Credentials key_;
  std::string instance_;
  bool lost_ = false;
  std::map<std::string, Latencies> times_;
};

}  // namespace clouddisk::load
