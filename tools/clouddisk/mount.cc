#include "tools/clouddisk/mount.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tools/clouddisk/disk_format.h"
#include "tools/clouddisk/host_state.h"
#include "tools/clouddisk/mount_record.h"
#include "tools/clouddisk/process.h"

namespace clouddisk::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kPatience = 10;            // seconds, for what ends or appears by itself
constexpr double kBusyPatience = 3;         // seconds, for a mount that is in use
constexpr std::chrono::seconds kSlow{600};  // mkfs, fsck, and an umount that writes a lot back
constexpr std::chrono::seconds kAskServer{5};
constexpr std::size_t kSocketPathMax = 107;

struct Program {
  const char* name;
  const char* package;
};

Verdict need_program(const Program& program) {
  if (!find_program(program.name).empty()) return Done{};
  return refuse("PackageMissing", "{} is not installed; install it with: apt-get install {}",
                program.name, program.package);
}

// Runs a step; its failure names the program and repeats what it said.
Verdict run_step(const std::vector<std::string>& command) {
  auto result = run_program(command, kSlow);
  if (!result) return result.failure();
  if (!result->ok()) return refuse("MountFailed", "{}: {}", command.front(), result->complaint());
  return Done{};
}

std::string log_tail(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  std::string tail = text.str();
  constexpr std::size_t kTailMax = 400;
  if (tail.size() > kTailMax) tail.erase(0, tail.size() - kTailMax);
  std::replace(tail.begin(), tail.end(), '\n', ' ');
  return tail.empty() ? "it said nothing" : tail;
}

bool has_content(const std::string& path) {
  std::error_code error;
  return fs::file_size(path, error) > 0 && !error;
}

// --- What must be there before anything is started ---

Outcome<MountWay> choose_way(MountWay wish) {
  if (wish == MountWay::kFuse) return MountWay::kFuse;
  if (!kernel_has_nbd() && !find_program("modprobe").empty()) {
    [[maybe_unused]] auto tried = run_program({"modprobe", "nbd"});
  }
  if (kernel_has_nbd()) {
    auto client = need_program({"nbd-client", "nbd-client"});
    if (client) return MountWay::kKernel;
    if (wish == MountWay::kKernel) return client.failure();
  }
  if (wish == MountWay::kKernel) {
    return refuse("KernelWithoutNbd",
                  "This kernel has no nbd driver; leave out --via kernel to mount without it");
  }
  return MountWay::kFuse;
}

Verdict check_programs(const MountRequest& request, MountWay way) {
  std::vector<Program> needed = {
      {"mount", "mount"}, {"umount", "mount"}, {"blkid", "util-linux"}, {"nbdinfo", "libnbd-bin"}};
  if (way == MountWay::kFuse) {
    needed.push_back({"nbdfuse", "libnbd-bin"});
    needed.push_back({"fusermount3", "fuse3"});
    needed.push_back({"losetup", "mount"});
  }
  if (request.mkfs == "ext4") needed.push_back({"mkfs.ext4", "e2fsprogs"});
  if (request.mkfs == "xfs") needed.push_back({"mkfs.xfs", "xfsprogs"});
  for (const Program& program : needed) {
    if (auto found = need_program(program); !found) return found;
  }
  return Done{};
}

Verdict check_devices() {
  if (::access("/dev/fuse", R_OK | W_OK) != 0) {
    [[maybe_unused]] auto tried = run_program({"modprobe", "fuse"});
    if (::access("/dev/fuse", R_OK | W_OK) != 0) {
      return refuse("DeviceMissing",
                    "/dev/fuse: {}; load the module with: modprobe fuse (in a container: give it "
                    "the device)",
                    std::strerror(errno));
    }
  }
  if (::access("/dev/loop-control", R_OK | W_OK) != 0) {
    [[maybe_unused]] auto tried = run_program({"modprobe", "loop"});
    if (::access("/dev/loop-control", R_OK | W_OK) != 0) {
      return refuse("DeviceMissing",
                    "/dev/loop-control: {}; load the module with: modprobe loop (in a container: "
                    "give it the device)",
                    std::strerror(errno));
    }
  }
  return Done{};
}

Verdict prepare_directory(MountRecord& record) {
  std::error_code error;
  if (!fs::exists(record.directory, error)) {
    fs::create_directories(record.directory, error);
    if (error) return refuse("MountFailed", "make {}: {}", record.directory, error.message());
    record.made_directory = true;
  } else if (!fs::is_directory(record.directory, error)) {
    return refuse("MountFailed", "{} is not a directory; name another", record.directory);
  }
  record.directory = fs::canonical(record.directory, error);
  if (is_mount_point(record.directory)) {
    return refuse("DirectoryBusy", "Something is mounted at {} already; name another directory",
                  record.directory);
  }
  return Done{};
}

// --- Teardown: the reverse, from what the kernel shows ---

Verdict unmount_directories(const std::string& device) {
  for (const std::string& directory : mount_points_of(device)) {
    std::string complaint;
    const auto try_once = [&] {
      auto result = run_program({"umount", directory}, kSlow);
      if (!result) {
        complaint = result.failure().message;
        return false;
      }
      complaint = result->complaint();
      const auto left = mount_points_of(device);
      return std::find(left.begin(), left.end(), directory) == left.end();
    };
    if (wait_until(kBusyPatience, try_once)) continue;
    const std::string users = users_of(directory);
    return refuse("DirectoryBusy",
                  "{} is in use{}{}; end what uses it (open files, a shell inside, a mount below) "
                  "and try again ({})",
                  directory, users.empty() ? "" : " by ", users, complaint);
  }
  return Done{};
}

// Ends every use of the device as a file system. A container or a service may have a copy of the
// mount in a namespace of its own, which nobody can unmount from here.
Verdict release_device(const MountRecord& record, const std::string& device) {
  if (auto unmounted = unmount_directories(device); !unmounted) return unmounted;
  std::string holders;
  const auto released = [&] {
    holders = mounters_elsewhere(device);
    return holders.empty();
  };
  if (wait_until(kBusyPatience, released)) return Done{};
  const bool several = holders.find(',') != std::string::npos;
  const std::string first = holders.substr(0, holders.find_first_of(", "));
  return refuse("DeviceBusy",
                "{} is not mounted here, but {} still is in another mount namespace, by {} {}: "
                "unmount it there (nsenter -t {} -m umount {}) or end {}, then: clouddisk disk "
                "umount {}",
                record.directory, device, several ? "processes" : "process", holders, first,
                record.directory, several ? "them" : "it", record.id);
}

Verdict detach_loops(const MountRecord& record) {
  for (const std::string& device : loop_devices_of(record.fuse_file())) {
    if (auto released = release_device(record, device); !released) return released;
    std::string complaint;
    Verdict unmounted = Done{};
    // The device goes once its last user has, udev too. A mount command that was killed may have
    // left a mount(8) behind, which comes to its end only now.
    const bool gone = wait_until(kPatience, [&] {
      unmounted = unmount_directories(device);
      if (!unmounted) return true;
      auto result = run_program({"losetup", "-d", device});
      complaint = !result ? result.failure().message : result->ok() ? "" : result->complaint();
      const auto left = loop_devices_of(record.fuse_file());
      return std::find(left.begin(), left.end(), device) == left.end();
    });
    if (!unmounted) return unmounted;
    if (gone) continue;
    // losetup is content with a device that goes when its last user does.
    const std::string users = users_of(device);
    return refuse("DeviceBusy",
                  "{} is unmounted, but {} is still in use{}{}{}: end what has it open, or has it "
                  "mounted in a mount namespace of its own, then: clouddisk disk umount {}",
                  record.directory, device, users.empty() ? "" : " by ", users,
                  complaint.empty() ? "" : " (" + complaint + ")", record.id);
  }
  return Done{};
}

// Asks, then insists.
Verdict end_processes(const std::string& program, const std::string& argument) {
  const auto none_left = [&] { return processes_with(program, argument).empty(); };
  for (const int signal : {SIGTERM, SIGKILL}) {
    for (const pid_t pid : processes_with(program, argument)) ::kill(pid, signal);
    if (wait_until(kPatience, none_left)) return Done{};
  }
  return refuse("UmountFailed", "{} (process {}) does not end; see {}", program,
                processes_with(program, argument).front(), "dmesg");
}

Verdict unmount_fuse(const MountRecord& record) {
  const std::string folder = record.fuse_folder();
  const auto ended = [&] { return processes_with("nbdfuse", record.fuse_file()).empty(); };
  // One that never got as far as mounting would not end by itself.
  if (!is_mount_point(folder) && !ended()) {
    if (auto done = end_processes("nbdfuse", record.fuse_file()); !done) return done;
  }
  if (is_mount_point(folder)) {
    std::string complaint;
    const bool gone = wait_until(kPatience, [&] {
      auto result = run_program({"fusermount3", "-u", folder});
      complaint = result ? result->complaint() : result.failure().message;
      return !is_mount_point(folder);
    });
    if (!gone) return refuse("UmountFailed", "fusermount3 -u {}: {}", folder, complaint);
  }
  if (wait_until(kPatience, ended)) return Done{};
  return end_processes("nbdfuse", record.fuse_file());
}

Verdict disconnect_kernel(const MountRecord& record) {
  // After a reboot the same device may be somebody else's.
  if (record.nbd_device.empty() || record.boot_id != current_boot_id()) return Done{};
  if (auto released = release_device(record, record.nbd_device); !released) return released;
  if (!nbd_device_connected(record.nbd_device)) return Done{};
  if (auto stopped = run_step({"nbd-client", "-d", record.nbd_device}); !stopped) return stopped;
  if (!wait_until(kPatience, [&] { return !nbd_device_connected(record.nbd_device); })) {
    return refuse("UmountFailed", "{} stays connected", record.nbd_device);
  }
  return Done{};
}

Verdict tear_down(const MountRecord& record) {
  if (auto done = disconnect_kernel(record); !done) return done;
  if (auto done = detach_loops(record); !done) return done;
  if (auto done = unmount_fuse(record); !done) return done;
  if (!record.relay_socket.empty()) {
    if (auto done = end_processes("nbdkit", record.relay_socket); !done) return done;
  }
  return forget_record(record);
}

// --- Setup ---

Outcome<pid_t> start_checked(const std::vector<std::string>& command, const std::string& log,
                             const std::function<bool()>& ready) {
  auto child = start_program(command, log);
  if (!child) return child.failure();
  bool ended = false;
  const bool came = wait_until(kPatience, [&] {
    ended = child_ended(*child);
    return ended || ready();
  });
  if (ended || !came) {
    if (!ended) ::kill(*child, SIGKILL);
    return refuse("MountFailed", "{} did not start: {}", command.front(), log_tail(log));
  }
  return *child;
}

// The retry filter connects again and repeats what was not answered, so a file system waits while
// the daemon restarts instead of failing. Sound because acknowledged writes survive the daemon.
Verdict start_relay(const MountRequest& request, MountRecord& record) {
  record.relay_socket = record.folder + "/relay.sock";
  if (record.relay_socket.size() > kSocketPathMax) {
    std::error_code error;
    fs::create_directories("/run/clouddisk", error);
    record.relay_socket = "/run/clouddisk/" + record.id + ".sock";
  }
  if (auto saved = save_record(record); !saved) return saved;
  std::vector<std::string> command = {"nbdkit", "-U", record.relay_socket, "-P",
                                      record.relay_pid_file()};
  if (request.read_only) command.push_back("-r");
  command.insert(command.end(), {"--filter=retry", "nbd"});
  if (request.nbd.kind == Address::Kind::kUnix) {
    command.push_back("socket=" + fs::absolute(request.nbd.path).string());
  } else {
    command.push_back("hostname=" + request.nbd.host);
    command.push_back(fmt::format("port={}", request.nbd.port));
  }
  command.insert(command.end(), {"export=" + request.id, "retry=10", "retries=10", "retry-delay=1",
                                 "retry-exponential=no"});
  // nbdkit puts itself in the background. In the foreground it would end with this program, its
  // parent.
  auto started = run_program(command);
  if (!started) return started.failure();
  const bool serves =
      started->exit_status == 0 && wait_until(kPatience, [&] {
        return has_content(record.relay_pid_file()) && fs::exists(record.relay_socket);
      });
  if (!serves) return refuse("MountFailed", "nbdkit did not start: {}", started->complaint());
  return Done{};
}

std::string uri_to_mount(const MountRequest& request, const MountRecord& record) {
  // nbdkit serves its one disk under any export name.
  const bool relayed = !record.relay_socket.empty();
  return nbd_uri(relayed ? Address::unix_socket(record.relay_socket) : request.nbd, false,
                 request.id);
}

Outcome<std::string> connect_fuse(const MountRequest& request, const MountRecord& record) {
  std::error_code error;
  fs::create_directory(record.fuse_folder(), error);
  if (error) return refuse("MountFailed", "make {}: {}", record.fuse_folder(), error.message());
  std::vector<std::string> command = {"nbdfuse", "-C", "4", "-P", record.nbdfuse_pid_file()};
  if (request.read_only) command.push_back("--readonly");
  command.push_back(record.fuse_file());
  command.push_back(uri_to_mount(request, record));
  auto started = start_checked(command, record.nbdfuse_log(),
                               [&] { return has_content(record.nbdfuse_pid_file()); });
  if (!started) return started.failure();
  std::vector<std::string> attach = {"losetup", "--direct-io=on", "--show", "-f"};
  if (request.read_only) attach.push_back("--read-only");
  attach.push_back(record.fuse_file());
  auto loop = run_program(attach);
  if (!loop) return loop.failure();
  if (!loop->ok()) return refuse("MountFailed", "losetup: {}", loop->complaint());
  return loop->output.substr(0, loop->output.find('\n'));
}

Outcome<std::string> connect_kernel(const MountRequest& request, MountRecord& record) {
  record.nbd_device = free_nbd_device();
  if (record.nbd_device.empty()) {
    return refuse("DeviceMissing",
                  "No /dev/nbd device is free; load more with: modprobe -r nbd; modprobe nbd "
                  "nbds_max=64, or mount with --via fuse");
  }
  if (auto saved = save_record(record); !saved) return saved.failure();
  std::vector<std::string> command = {"nbd-client"};
  if (!record.relay_socket.empty() || request.nbd.kind == Address::Kind::kUnix) {
    command.push_back("-unix");
    command.push_back(record.relay_socket.empty() ? fs::absolute(request.nbd.path).string()
                                                  : record.relay_socket);
  } else {
    command.push_back(request.nbd.host);
    command.push_back(std::to_string(request.nbd.port));
  }
  command.insert(command.end(), {record.nbd_device, "-N", request.id, "-C", "4"});
  if (request.read_only) command.push_back("-R");
  if (auto connected = run_step(command); !connected) return connected.failure();
  if (!wait_until(kPatience, [&] { return nbd_device_connected(record.nbd_device); })) {
    return refuse("MountFailed", "{} did not connect; see dmesg", record.nbd_device);
  }
  return record.nbd_device;
}

// "ext4", "xfs", …; empty when there is nothing that blkid knows.
Outcome<std::string> signature_of(const std::string& device) {
  auto probe = run_program({"blkid", "-p", "-o", "export", device});
  if (!probe) return probe.failure();
  constexpr int kNothingFound = 2;
  if (probe->exit_status == kNothingFound) return std::string();
  if (!probe->ok()) return refuse("MountFailed", "blkid {}: {}", device, probe->complaint());
  std::istringstream lines(probe->output);
  std::string type;
  for (std::string line; std::getline(lines, line);) {
    for (const char* key : {"TYPE=", "PTTYPE="}) {
      if (line.starts_with(key) && type.empty()) type = line.substr(line.find('=') + 1);
    }
  }
  return type.empty() ? std::string("unknown") : type;
}

Verdict make_file_system(const MountRequest& request, const std::string& device,
                         const std::string& found) {
  if (!found.empty()) {
    return refuse("FileSystemExists",
                  "Disk {} holds {} already; mount it without --mkfs, or wipe it first if nobody "
                  "needs it",
                  request.id, found);
  }
  if (request.mkfs == "ext4") return run_step({"mkfs.ext4", "-q", "-F", device});
  return run_step({"mkfs.xfs", "-q", "-f", device});
}

// ext4 is grown before it is mounted, xfs after.
Verdict grow_ext4(const std::string& device) {
  auto check = run_program({"e2fsck", "-f", "-p", device}, kSlow);
  if (!check) return check.failure();
  constexpr int kErrorsCorrected = 1;
  if (check->exit_status > kErrorsCorrected) {
    return refuse("MountFailed", "e2fsck {}: {}", device, check->complaint());
  }
  return run_step({"resize2fs", device});
}

Verdict mount_device(const MountRequest& request, const MountRecord& record,
                     const std::string& device) {
  auto found = signature_of(device);
  if (!found) return found.failure();
  std::string type = *found;
  if (!request.mkfs.empty()) {
    if (auto made = make_file_system(request, device, type); !made) return made;
    type = request.mkfs;
  } else if (type.empty()) {
    return refuse("FileSystemMissing", "Disk {} has no file system; make one with: --mkfs ext4",
                  request.id);
  }
  if (request.grow && type == "ext4" && request.mkfs.empty()) {
    if (auto grown = grow_ext4(device); !grown) return grown;
  }
  std::vector<std::string> command = {"mount"};
  std::string options = request.options;
  if (request.read_only) options += options.empty() ? "ro" : ",ro";
  if (!options.empty()) command.insert(command.end(), {"-o", options});
  command.insert(command.end(), {device, record.directory});
  if (auto mounted = run_step(command); !mounted) return mounted;
  // Without this check writes would land on the host's own disk.
  const auto directories = mount_points_of(device);
  if (std::find(directories.begin(), directories.end(), record.directory) == directories.end()) {
    return refuse("MountFailed", "{} is not mounted at {} although mount said so", device,
                  record.directory);
  }
  if (request.grow && type == "xfs") return run_step({"xfs_growfs", record.directory});
  return Done{};
}

Outcome<MountResult> set_up(const MountRequest& request, MountWay way, MountRecord& record) {
  if (auto saved = save_record(record); !saved) return saved.failure();
  auto size = run_program({"nbdinfo", "--size", nbd_uri(request.nbd, false, request.id)});
  if (!size) return size.failure();
  if (!size->ok()) {
    return refuse("ExportNotReachable", "the daemon does not serve disk {}: {}", request.id,
                  size->complaint());
  }
  if (request.relay && !find_program("nbdkit").empty()) {
    if (auto relay = start_relay(request, record); !relay) return relay.failure();
  }
  auto device =
      way == MountWay::kKernel ? connect_kernel(request, record) : connect_fuse(request, record);
  if (!device) return device.failure();
  if (auto mounted = mount_device(request, record, *device); !mounted) return mounted.failure();
  return MountResult{record.directory, *device, way, !record.relay_socket.empty()};
}

std::optional<MountRecord> record_of(const std::string& root, const std::string& id) {
  for (MountRecord& record : find_records(root)) {
    if (record.id == id) return std::move(record);
  }
  return std::nullopt;
}

// What is mounted, for who named something else.
std::string what_is_mounted(const std::vector<MountRecord>& records) {
  std::string text;
  for (const MountRecord& record : records) {
    text += fmt::format("{}{} at {}", text.empty() ? "" : ", ", record.id, record.directory);
  }
  return text.empty() ? "nothing is; for mounts of others see: findmnt" : "noted are: " + text;
}

// Whether the daemon serves the disk where the relay looks for it; empty: it does, or there is no
// relay. As the relay was told, which knows better than the options of this command.
std::string why_the_relay_waits(const MountRecord& record, const std::string& root) {
  if (record.relay_socket.empty() || find_program("nbdinfo").empty()) return {};
  std::string socket, host, port;
  for (const pid_t relay : processes_with("nbdkit", record.relay_socket)) {
    const std::string words = read_text(fmt::format("/proc/{}/cmdline", relay));
    std::istringstream arguments(words);
    for (std::string word; std::getline(arguments, word, '\0');) {
      if (word.starts_with("socket=")) socket = word.substr(word.find('=') + 1);
      if (word.starts_with("hostname=")) host = word.substr(word.find('=') + 1);
      if (word.starts_with("port=")) port = word.substr(word.find('=') + 1);
    }
  }
  if (host.find(':') != std::string::npos) host = fmt::format("[{}]", host);
  const auto address =
      parse_address(socket.empty() ? fmt::format("tcp:{}:{}", host, port) : "unix:" + socket);
  if (!address) return {};
  auto asked = run_program({"nbdinfo", "--size", nbd_uri(*address, false, record.id)}, kAskServer);
  if (asked && asked->ok()) return {};
  return fmt::format(
      "{} is not served at {}; what is still to be written waits for it, about two minutes, or "
      "several times that if it is much, and is lost then; it goes on as soon as the disk is "
      "there again (a daemon that is down: clouddiskd --root {})",
      record.id, address->text(), root);
}

Verdict need_root() {
  if (::geteuid() == 0) return Done{};
  return refuse("PermissionDenied",
                "mounting needs root: run it with sudo (the daemon itself does "
                "not); or use the disk without mounting through its NBD URI");
}

}  // namespace

Outcome<MountResult> mount_disk(const MountRequest& request) {
  if (auto root = need_root(); !root) return root.failure();
  auto way = choose_way(request.way);
  if (!way) return way.failure();
  if (auto programs = check_programs(request, *way); !programs) return programs.failure();
  if (*way == MountWay::kFuse) {
    if (auto devices = check_devices(); !devices) return devices.failure();
  }
  auto records = folder_for_new_records(request.root);
  if (!records) return records.failure();
  auto lock = RecordsLock::take(*records);
  if (!lock) return lock.failure();
  if (const auto old = record_of(request.root, request.id)) {
    return refuse("AlreadyMounted",
                  "Disk {} is mounted at {} (or a mount did not end); first: clouddisk disk umount "
                  "{}",
                  request.id, old->directory, request.id);
  }
  MountRecord record;
  record.id = request.id;
  std::error_code error;
  record.folder = fs::canonical(*records, error).string() + '/' + request.id;
  record.directory = fs::absolute(request.directory, error);
  record.boot_id = current_boot_id();
  if (auto ready = prepare_directory(record); !ready) return ready.failure();
  auto mounted = set_up(request, *way, record);
  if (mounted) return mounted;
  Failure failure = mounted.failure();
  if (auto undone = tear_down(record); !undone) {
    failure.message += fmt::format(
        " (and what was begun could not be undone: {}; clear it up "
        "with: clouddisk disk umount {})",
        undone.failure().message, request.id);
  }
  return failure;
}

Outcome<std::string> unmount_disk(const std::string& root, const std::string& id_or_directory,
                                  const std::function<void(const std::string&)>& say) {
  if (auto allowed = need_root(); !allowed) return allowed.failure();
  std::error_code error;
  const std::string directory = fs::weakly_canonical(fs::absolute(id_or_directory, error), error);
  for (const MountRecord& found : find_records(root)) {
    if (found.id != id_or_directory && found.directory != directory) continue;
    auto lock = RecordsLock::take(fs::path(found.folder).parent_path());
    if (!lock) return lock.failure();
    // Somebody else may have unmounted it while this command waited for the lock.
    const auto record = record_of(root, found.id);
    if (!record) break;
    if (say && is_mount_point(record->directory)) {
      if (const std::string why = why_the_relay_waits(*record, root); !why.empty()) say(why);
    }
    if (auto done = tear_down(*record); !done) return done.failure();
    return record->id;
  }
  return refuse("NotMounted", "{} is not mounted by clouddisk with root {}; {}", id_or_directory,
                root, what_is_mounted(find_records(root)));
}

std::optional<std::string> mounted_at(const std::string& root, const std::string& id) {
  const auto record = record_of(root, id);
  if (!record) return std::nullopt;
  return record->directory;
}

bool mount_is_relayed(const std::string& root, const std::string& id) {
  const auto record = record_of(root, id);
  return record && !record->relay_socket.empty();
}

}  // namespace clouddisk::cli
