// Snapshots as files, and files as snapshots. qemu-img reads and writes the formats; the daemon's
// side is an NBD export.
#include "tools/clouddisk/snapshot_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "tools/clouddisk/process.h"
#include "tools/clouddisk/progress.h"
#include "tools/clouddisk/session.h"

namespace clouddisk::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::hours kCheckMax(1);

// By name alone: what a raw image holds may look like any other format, and is the guest's to say.
Outcome<std::string> format_of(const std::string& file, const std::optional<std::string>& given) {
  if (given) return *given;
  const std::string ending = fs::path(file).extension();
  if (ending == ".qcow2") return std::string("qcow2");
  if (ending == ".raw" || ending == ".img") return std::string("raw");
  return refuse("UnknownFormat",
                "{} is neither *.qcow2 nor *.raw nor *.img: say --format qcow2 or --format raw",
                file);
}

Verdict need_qemu_img() {
  if (!find_program("qemu-img").empty()) return Done{};
  return refuse("ProgramMissing", "qemu-img is not installed: install the package qemu-utils");
}

// Copies, and shows how far it is; `total` in bytes.
Verdict convert(std::vector<std::string> command, std::uint64_t total, const std::string& code,
                const HoldInterrupts& interrupts) {
  ProgressLine line;
  const auto show = [&line, total](std::string_view output) {
    if (const auto percent = qemu_percent(output)) {
      line.show(static_cast<std::uint64_t>(static_cast<double>(total) * *percent / 100), total);
    }
  };
  auto result = run_long_program(command, interrupts, show);
  if (!result) return result.failure();
  if (!result->ok()) return Failure{code, result->complaint()};
  return Done{};
}

// What was written to a file, a device or a folder outlives a power cut. qemu-img does not see to
// it.
std::error_code make_durable(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {errno, std::generic_category()};
  std::error_code error;
  // EINVAL: there is nothing to wait for with this kind.
  if (::fsync(fd) != 0 && errno != EINVAL) error = {errno, std::generic_category()};
  ::close(fd);
  return error;
}

// --- export ---

// Before anything is copied; a device, which is there already, is meant to be overwritten.
Verdict target_must_be_free(const fs::path& target, const fs::file_status& status, bool force) {
  const fs::path folder = target.parent_path();
  std::error_code error;
  if (fs::is_directory(status)) {
    return refuse("InvalidFile", "{} is a folder; name a file in it", target.string());
  }
  if (!fs::is_directory(folder, error)) {
    return refuse("InvalidFile", "There is no folder {}; make it, or give another",
                  folder.string());
  }
  if (!fs::exists(status) && ::access(folder.c_str(), W_OK) != 0) {
    return refuse("InvalidFile", "This user can't write to the folder {}", folder.string());
  }
  if (fs::is_regular_file(status) && !force) {
    return refuse("FileExists", "{} is there already; replace it with --force, or give another",
                  target.string());
  }
  return Done{};
}

}  // namespace

void add_file_format(CLI::App* command, std::optional<std::string>& format) {
  command->add_option("--format", format, "raw or qcow2; default: by the file's name")
      ->check(CLI::IsMember({"raw", "qcow2"}))
      ->type_name("FORMAT");
}

Verdict export_snapshot(const ApiClient& api, const ExportArguments& arguments) {
  auto format = format_of(arguments.to, arguments.format);
  if (!format) return format.failure();
  std::error_code error;
  const fs::path target = fs::absolute(arguments.to, error);
  const fs::file_status status = fs::status(target, error);
  if (auto free = target_must_be_free(target, status, arguments.force); !free) return free;
  auto exported = api.snapshot_export(arguments.id);
  if (!exported) return exported.failure();
  if (auto there = need_qemu_img(); !there) return there;
  const bool device = fs::exists(status) && !fs::is_regular_file(status);
  // Nobody takes half a file for a whole one: it gets its name when it is complete and durable.
  const std::string file = device ? target.string() : fmt::format("{}.part", target.string());

  std::vector<std::string> command = {"qemu-img", "convert", "-p", "-f", "raw", "-O", *format};
  if (*format == "qcow2") {
    command.insert(command.end(), {"-c", "-o", "compression_type=zstd"});
  } else {
    command.emplace_back("-W");
  }
  if (device) command.emplace_back("-n");
  command.insert(command.end(), {exported->uri, file});
  const HoldInterrupts interrupts;
  auto copied = convert(std::move(command), exported->size_bytes, "ExportFailed", interrupts);
  error.clear();
  if (copied) error = make_durable(file);
  if (!device) {
    if (copied && !error) fs::rename(file, target, error);
    if (copied && !error) {
      error = make_durable(target.parent_path());
    } else {
      std::error_code ignored;
      fs::remove(file, ignored);
    }
  }
  if (!copied || !error) return copied;
  return refuse("ExportFailed", "{}: {}", target.string(), error.message());
}

namespace {

void add_snapshot_export(CLI::App& parent, Session& session) {
  CLI::App* command =
      add_command(parent, "export", "Copy a snapshot to a file, raw or qcow2",
                  "  clouddisk snapshot export s-bp1example --to base.qcow2\n"
                  "  clouddisk snapshot export s-bp1example --to /backup/base --format raw");
  auto arguments = std::make_shared<ExportArguments>();
  command->add_option("SNAPSHOT", arguments->id, "The snapshot's id, s-…")
      ->required()
      ->type_name("");
  command->add_option("--to", arguments->to, "The file: *.qcow2, *.raw or *.img")
      ->required()
      ->type_name("FILE");
  add_file_format(command, arguments->format);
  command->add_flag("--force", arguments->force, "Replace a file that is there already");
  on_call(command, session,
          [arguments](const ApiClient& api) { return export_snapshot(api, *arguments); });
}

// --- import ---

// As the guest sees it, whatever the file takes.
Outcome<std::uint64_t> virtual_size(const std::string& file, const std::string& format) {
  auto result = run_program({"qemu-img", "info", "--output=json", "-f", format, file});
  if (!result) return result.failure();
  if (!result->ok()) return Failure{"InvalidFile", result->complaint()};
  const Json info = Json::parse(result->output, nullptr, false);
  const std::uint64_t size = number_of(info, "virtual-size");
  if (size == 0) return refuse("InvalidFile", "{} is empty", file);
  return size;
}

// A qcow2 file that is cut off is not an error to qemu-img convert: what lacks reads as zeros.
Verdict must_be_whole(const std::string& file, const std::string& format) {
  constexpr int kLeakedClusters = 3;  // of no harm to what is in it
  if (format != "qcow2") return Done{};
  auto result = run_program({"qemu-img", "check", "-f", format, "-U", file}, kCheckMax);
  if (!result) return result.failure();
  if (result->ok() || result->exit_status == kLeakedClusters) return Done{};
  return refuse("InvalidFile", "{} is damaged or cut off; see: qemu-img check {}", file, file);
}

// What is left of an import that failed goes. `finishing`: its last step was asked for.
Failure give_up(const ApiClient& api, const std::string& disk_id, const Failure& why,
                bool finishing = false) {
  constexpr std::string_view kDiskGone = "InvalidDiskId.NotFound";
  auto deleted = api.call("DeleteDisk", {{"DiskId", disk_id}});
  if (deleted) return why;
  if (deleted.failure().code != kDiskGone) {
    return refuse(why.code, "{} What was copied is left in disk {}: clouddisk disk delete {} ({})",
                  why.message, disk_id, disk_id, deleted.failure().message);
  }
  // The answer may have been lost on its way: then the disk has become the snapshot.
  if (finishing && why.code != kDiskGone) {
    return refuse(
        why.code,
        "The snapshot may be there all the same, see: clouddisk snapshot list --disk {} ({})",
        disk_id, why.message);
  }
  return why;
}

}  // namespace

Outcome<Json> import_snapshot(const ApiClient& api, const ImportArguments& arguments) {
  std::error_code error;
  // Absolute: a colon in it is no protocol then.
  const std::string file = fs::absolute(arguments.file, error).string();
  const fs::file_status status = fs::status(file, error);
  if (!fs::exists(status)) return refuse("InvalidFile", "There is no file {}", arguments.file);
  if (fs::is_directory(status)) {
    return refuse("InvalidFile", "{} is a folder; give a qcow2 or raw image", arguments.file);
  }
  if (::access(file.c_str(), R_OK) != 0) {
    return refuse("InvalidFile", "{} can't be read by this user", arguments.file);
  }
  auto format = format_of(arguments.file, arguments.format);
  if (!format) return format.failure();
  if (auto there = need_qemu_img(); !there) return there.failure();
  auto size = virtual_size(file, *format);
  if (!size) return size.failure();
  if (auto whole = must_be_whole(file, *format); !whole) return whole.failure();

  const HoldInterrupts interrupts;
  Params params{{"ImageSize", std::to_string(*size)},
                {"DiskType", arguments.of_system_disk ? "system" : "data"}};
  if (arguments.name) params["SnapshotName"] = *arguments.name;
  if (arguments.description) params["Description"] = *arguments.description;
  auto begun = api.call("BeginSnapshotImport", params);
  if (!begun) return begun.failure();
  const std::string disk_id = text_of(*begun, "DiskId");
  auto exports = api.exports(disk_id);
  if (!exports) return give_up(api, disk_id, exports.failure());
  // The disk is new: what is zero in the image need not be written.
  std::vector<std::string> command = {"qemu-img", "convert", "-p",    "-n", "--target-is-zero",
                                      "-W",       "-f",      *format, "-O", "raw",
                                      file};
  command.push_back(exports->front().uri);
  auto copied = convert(std::move(command), *size, "ImportFailed", interrupts);
  if (!copied) return give_up(api, disk_id, copied.failure());
  auto finished = api.call("FinishSnapshotImport", {{"DiskId", disk_id}});
  if (!finished) return give_up(api, disk_id, finished.failure(), true);
  return finished;
}

namespace {

void add_snapshot_import(CLI::App& parent, Session& session) {
  CLI::App* command = add_command(
      parent, "import", "Make a snapshot of a raw or qcow2 file and print its id",
      "  clouddisk snapshot import base.qcow2 --name base\n"
      "  clouddisk disk create --snapshot \"$(clouddisk snapshot import base.raw)\" --size 40");
  auto arguments = std::make_shared<ImportArguments>();
  command->add_option("FILE", arguments->file, "The image: *.qcow2, *.raw or *.img")
      ->required()
      ->type_name("");
  add_file_format(command, arguments->format);
  command
      ->add_option("--name", arguments->name,
                   "2 to 128 characters, beginning with a letter, and not with auto, http:// or "
                   "https://")
      ->type_name("TEXT");
  command->add_option("--description", arguments->description, "2 to 256 characters")
      ->type_name("TEXT");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto made = import_snapshot(api, *arguments);
    if (!made) return made.failure();
    if (session.json()) {
      print_json(*made);
    } else {
      print_text(text_of(*made, "SnapshotId") + "\n");
    }
    return Done{};
  });
}

}  // namespace

void add_snapshot_files(CLI::App& snapshot, Session& session) {
  add_snapshot_export(snapshot, session);
  add_snapshot_import(snapshot, session);
}

}  // namespace clouddisk::cli
