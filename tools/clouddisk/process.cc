#include "tools/clouddisk/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "engine/ring/listener.h"

namespace clouddisk::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kOutputBytesMax = 16 * 1024 * 1024;

class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    // The child must not inherit that we ignore SIGPIPE.
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    // Nor that we hold interrupts back.
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    set_flags(0);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  void set_flags(int more) {
    posix_spawnattr_setflags(
        &attributes, static_cast<short>(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | more));
  }

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

Outcome<pid_t> spawn_program(const std::vector<std::string>& command, SpawnSettings& settings) {
  const std::string path = find_program(command.front());
  if (path.empty()) {
    return refuse("ProgramMissing", "{} is not installed", command.front());
  }
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t child = -1;
  const int rc = ::posix_spawn(&child, path.c_str(), &settings.actions, &settings.attributes,
                               arguments.data(), environ);
  if (rc != 0) return refuse("ProgramFailed", "{}: {}", path, std::strerror(rc));
  return child;
}

int exit_status_of(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

struct Pipe {
  Socket read;
  Socket write;
};
Outcome<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return refuse("ProgramFailed", "pipe: {}", std::strerror(errno));
  }
  return Pipe{Socket(ends[0]), Socket(ends[1])};
}

// Appends what is there; false at the end of the stream.
bool drain_into(int fd, std::string& into) {
  std::array<char, 16 * 1024> chunk;
  const ssize_t got = ::read(fd, chunk.data(), chunk.size());
  if (got < 0) return errno == EINTR || errno == EAGAIN;
  if (got > 0 && into.size() < kOutputBytesMax) {
    into.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return got > 0;
}

}  // namespace

std::string ProgramResult::complaint() const {
  std::string text = errors.empty() ? output : errors;
  std::replace(text.begin(), text.end(), '\n', ' ');
  text.erase(text.find_last_not_of(' ') + 1);
  if (text.empty()) text = fmt::format("exit status {}", exit_status);
  return text;
}

std::string find_program(const std::string& name) {
  const auto executable = [](const std::string& path) { return ::access(path.c_str(), X_OK) == 0; };
  if (name.find('/') != std::string::npos) return executable(name) ? name : std::string();
  const char* path = std::getenv("PATH");
  std::string folders = path != nullptr ? path : "";
  folders += ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
  std::size_t begin = 0;
  while (begin <= folders.size()) {
    const std::size_t end = std::min(folders.find(':', begin), folders.size());
    const std::string candidate = folders.substr(begin, end - begin) + '/' + name;
    if (end > begin && executable(candidate)) return candidate;
    begin = end + 1;
  }
  return {};
}

namespace {

struct Running {
  pid_t child = -1;
  Socket out;
  Socket err;
};

Outcome<Running> start_with_pipes(const std::vector<std::string>& command) {
  auto out = make_pipe();
  if (!out) return out.failure();
  auto err = make_pipe();
  if (!err) return err.failure();
  SpawnSettings settings;
  posix_spawn_file_actions_adddup2(&settings.actions, out->write.fd(), 1);
  posix_spawn_file_actions_adddup2(&settings.actions, err->write.fd(), 2);
  auto child = spawn_program(command, settings);
  if (!child) return child.failure();
  return Running{*child, std::move(out->read), std::move(err->read)};
}

int wait_for_end(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return exit_status_of(status);
}

}  // namespace

Outcome<ProgramResult> run_program(const std::vector<std::string>& command,
                                   std::chrono::seconds timeout) {
  auto running = start_with_pipes(command);
  if (!running) return running.failure();
  ProgramResult result;
  const auto deadline = Clock::now() + timeout;
  std::array<pollfd, 2> wait{{{running->out.fd(), POLLIN, 0}, {running->err.fd(), POLLIN, 0}}};
  while (wait[0].fd >= 0 || wait[1].fd >= 0) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0 ||
        ::poll(wait.data(), wait.size(), static_cast<int>(left.count())) == 0) {
      ::kill(running->child, SIGKILL);
      // One that waits in the kernel for a dead device does not even end then.
      for (int i = 0; i < 100 && !child_ended(running->child); ++i) ::usleep(20'000);
      return refuse("ProgramFailed", "{} did not end within {} s", command.front(),
                    timeout.count());
    }
    if (wait[0].revents != 0 && !drain_into(wait[0].fd, result.output)) wait[0].fd = -1;
    if (wait[1].revents != 0 && !drain_into(wait[1].fd, result.errors)) wait[1].fd = -1;
  }
  result.exit_status = wait_for_end(running->child);
  return result;
}

HoldInterrupts::HoldInterrupts() {
  sigset_t held;
  sigemptyset(&held);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&held, number);
  pthread_sigmask(SIG_BLOCK, &held, &before_);
  fd_ = ::signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
}

HoldInterrupts::~HoldInterrupts() {
  // One that came is dealt with; it must not end the process now.
  std::array<signalfd_siginfo, 4> taken;
  while (::read(fd_, taken.data(), sizeof taken) > 0) {
  }
  ::close(fd_);
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

Outcome<ProgramResult> run_long_program(const std::vector<std::string>& command,
                                        const HoldInterrupts& interrupts,
                                        const std::function<void(std::string_view)>& on_output) {
  auto running = start_with_pipes(command);
  if (!running) return running.failure();
  ProgramResult result;
  std::array<pollfd, 3> wait{{{running->out.fd(), POLLIN, 0},
                              {running->err.fd(), POLLIN, 0},
                              {interrupts.fd(), POLLIN, 0}}};
  while (wait[0].fd >= 0 || wait[1].fd >= 0) {
    if (::poll(wait.data(), wait.size(), -1) < 0) continue;
    if (wait[2].revents != 0) {
      ::kill(running->child, SIGKILL);
      wait_for_end(running->child);
      return refuse("Interrupted", "{} was ended before it was done", command.front());
    }
    std::string output;
    if (wait[0].revents != 0 && !drain_into(wait[0].fd, output)) wait[0].fd = -1;
    if (!output.empty()) on_output(output);
    if (wait[1].revents != 0 && !drain_into(wait[1].fd, result.errors)) wait[1].fd = -1;
  }
  result.exit_status = wait_for_end(running->child);
  return result;
}

Outcome<pid_t> start_program(const std::vector<std::string>& command, const std::string& log_path) {
  SpawnSettings settings;
  settings.set_flags(POSIX_SPAWN_SETSID);
  posix_spawn_file_actions_addopen(&settings.actions, 1, log_path.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0640);
  posix_spawn_file_actions_adddup2(&settings.actions, 1, 2);
  posix_spawn_file_actions_addclosefrom_np(&settings.actions, 3);
  return spawn_program(command, settings);
}

bool child_ended(pid_t child) {
  return ::waitpid(child, nullptr, WNOHANG) == child;
}

}  // namespace clouddisk::cli
