#include "tests/tools/e2e/test_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/ring/listener.h"
#include "tools/clouddisk/host_state.h"

namespace clouddisk::e2e {
namespace {

constexpr int kStartPatienceMs = 60'000;

std::string trimmed(std::string text) {
  text.erase(text.find_last_not_of('\n') + 1);
  return text;
}

}  // namespace

TestDaemon::TestDaemon() {
  char name[] = "/var/tmp/clouddisk-e2e-XXXXXX";
  CHECK(::mkdtemp(name) != nullptr);
  folder_ = name;
  root_ = folder_ + "/root";
}

TestDaemon::~TestDaemon() {
  if (running()) kill_now();
  if (testing::Test::HasFailure()) std::fprintf(stderr, "--- log of the daemon\n%s", log().c_str());
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
}

std::string TestDaemon::log() const {
  std::ifstream file(folder_ + "/log");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool TestDaemon::start(std::vector<std::string> arguments) {
  int ends[2];
  CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  const Socket read_end(ends[0]);
  Socket write_end(ends[1]);
  std::vector<std::string> command = {CLOUDDISKD_PROGRAM, "--root", root_};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  const int log_file =
      ::open((folder_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  CHECK(log_file >= 0);
  pid_ = ::fork();
  CHECK(pid_ >= 0);
  if (pid_ == 0) {
    ::dup2(write_end.fd(), 1);
    ::dup2(log_file, 2);
    ::execv(words[0], words.data());
    ::_exit(127);
  }
  ::close(log_file);
  write_end.close();
  std::string said;
  bool ended = false;
  while (said.find("READY\n") == std::string::npos) {
    pollfd wait{read_end.fd(), POLLIN, 0};
    char chunk[256];
    if (::poll(&wait, 1, kStartPatienceMs) != 1) break;
    const ssize_t got = ::read(read_end.fd(), chunk, sizeof(chunk));
    ended = got <= 0;  // It closed its output, and is about to be gone.
    if (ended) break;
    said.append(chunk, static_cast<std::size_t>(got));
  }
  if (said == "READY\n") return true;
  if (ended) {
    wait_for_end();
  } else if (running()) {
    ADD_FAILURE() << "the daemon said '" << said << "' instead of READY";
    kill_now();
  } else {
    pid_ = -1;
  }
  return false;
}

bool TestDaemon::running() {
  if (pid_ <= 0) return false;
  return ::waitpid(pid_, nullptr, WNOHANG) == 0;
}

void TestDaemon::kill_now() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

int TestDaemon::stop() {
  ::kill(pid_, SIGTERM);
  return wait_for_end();
}

int TestDaemon::wait_for_end() {
  int status = 0;
  for (int i = 0; i < 6000; ++i) {
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    ::usleep(10'000);
  }
  ADD_FAILURE() << "the daemon does not end";
  kill_now();
  return -1;
}

ProgramResult TestDaemon::cli(std::vector<std::string> arguments) const {
  std::vector<std::string> command = {CLOUDDISK_PROGRAM, "--root", root_};
  command.insert(command.end(), arguments.begin(), arguments.end());
  auto result = cli::run_program(command, std::chrono::seconds(120));
  if (result) return std::move(*result);
  ADD_FAILURE() << result.failure().message;
  return {};
}

std::string TestDaemon::ok(std::vector<std::string> arguments) const {
  const ProgramResult result = cli(arguments);
  EXPECT_EQ(result.exit_status, 0) << arguments[0] << ' ' << arguments[1] << ": " << result.errors;
  return trimmed(result.output);
}

Json TestDaemon::ok_json(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), {"--output", "json"});
  const std::string text = ok(arguments);
  Json json = Json::parse(text, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << text;
  return json;
}

void TestDaemon::refused(const std::string& code, std::vector<std::string> arguments) const {
  const ProgramResult result = cli(arguments);
  std::string words;
  for (const std::string& word : arguments) words += word + ' ';
  EXPECT_EQ(result.exit_status, code == "WrongUsage" ? 2 : 1) << words << result.errors;
  EXPECT_EQ(result.output, "") << words;
  EXPECT_TRUE(result.errors.starts_with("error: " + code + ": ")) << words << result.errors;
}

std::string TestDaemon::make_disk(int size_gib) const {
  const std::string id = ok({"disk", "create", "--size", std::to_string(size_gib)});
  ok({"disk", "attach", id});
  return id;
}

std::string TestDaemon::replica_state(int number) const {
  const Json replicas = ok_json({"replica", "status"});
  for (const Json& replica : replicas) {
    if (replica["folder"] == this->replica(number)) return replica["state"].get<std::string>();
  }
  return "missing";
}

bool TestDaemon::wait_for_replicas(int in_sync, double seconds) const {
  return cli::wait_until(seconds, [&] {
    int count = 0;
    for (int i = 1; i <= 3; ++i) count += replica_state(i) == "in-sync" ? 1 : 0;
    return count == in_sync;
  });
}

std::string run_ok(const std::vector<std::string>& command) {
  auto result = cli::run_program(command, std::chrono::seconds(300));
  if (!result) {
    ADD_FAILURE() << result.failure().message;
    return {};
  }
  EXPECT_TRUE(result->ok()) << command[0] << ": " << result->complaint();
  return trimmed(result->output);
}

void copy_folder(const std::string& from, const std::string& to) {
  run_ok({"cp", "--archive", "--sparse=always", "--no-target-directory", from, to});
}

bool installed(const std::string& program) {
  return !cli::find_program(program).empty();
}

}  // namespace clouddisk::e2e
