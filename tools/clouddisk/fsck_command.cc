// fsck_command.cc: clouddisk fsck: checks a stopped root, and mends it on request. What is checked:
// snapshot/root_check.h. Without --repair all of it runs over an overlay, so nothing is changed.
#include <filesystem>

#include "engine/base/log.h"
#include "engine/base/units.h"
#include "engine/ring/overlay_ring.h"
#include "engine/ring/uring_ring.h"
#include "snapshot/root_check.h"
#include "tools/clouddisk/progress.h"
#include "tools/clouddisk/session.h"
#include "tools/net/replica_record.h"
#include "tools/net/root_lock.h"

namespace clouddisk::cli {
namespace {
namespace fs = std::filesystem;
using snapshot::CheckFinding;
using snapshot::RootCheck;
using snapshot::RootCheckOptions;

// As fsck(8) has them.
constexpr int kClean = 0;
constexpr int kCorrected = 1;
constexpr int kUncorrected = 4;
constexpr int kOperational = 8;
constexpr int kUsage = 16;

struct FsckOptions {
  std::vector<std::string> replicas;
  std::string disk;
  bool repair = false;
};

int fail_with(int status, const std::string& code, const std::string& message) {
  print_failure({code, message});
  return status;
}

// Where the environments that a trial needs are copied to; removed with the object.
class Scratch {
 public:
  Scratch() {
    std::error_code error;
    std::string pattern = (fs::temp_directory_path(error) / "clouddisk-fsck-XXXXXX").string();
    if (!error && ::mkdtemp(pattern.data()) != nullptr) path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Result<RootCheck> look(Ring& ring, RootCheckOptions options) {
  const Scratch scratch;
  if (scratch.path().empty()) {
    return fail(Errc::kIo, "no folder for temporary files can be made; set TMPDIR");
  }
  OverlayRing overlay(ring, scratch.path());
  options.repair = false;
  return overlay.block_on(check_root(overlay, std::move(options)));
}

const char* name_of(CheckFinding::Kind kind) {
  switch (kind) {
    case CheckFinding::Kind::kNote:
      return "note";
    case CheckFinding::Kind::kMendable:
      return "mendable";
    case CheckFinding::Kind::kLost:
      return "lost";
  }
  return "unknown";
}

bool is_error(const CheckFinding& finding) {
  return finding.kind != CheckFinding::Kind::kNote;
}

std::string describe(const CheckFinding& finding) {
  std::string text = finding.subject;
  if (finding.replica) text += fmt::format(", replica {}", *finding.replica);
  if (finding.segment) {
    text += fmt::format(", segment {} blocks {}+{}", *finding.segment, finding.first_block,
                        finding.blocks);
  }
  if (finding.first_lba) {
    text += fmt::format(", LBA {}+{} (bytes {} to {})", *finding.first_lba, finding.lbas,
                        *finding.first_lba * kBlockSize,
                        (*finding.first_lba + finding.lbas) * kBlockSize - 1);
  }
  return text + ": " + finding.what;
}

struct Examination {
  RootCheck found;
  std::vector<std::pair<CheckFinding, std::string>> failed;  // to be mended, and why
  std::optional<RootCheck> left;                             // after a repair
  std::optional<Error> cut_off;                              // it did not come to its end

  static bool names_replica(const RootCheck& check, unsigned replica) {
    return std::any_of(check.findings.begin(), check.findings.end(), [&](const auto& one) {
      return one.subject == "replica" && one.replica == replica;
    });
  }
  static bool has(const RootCheck& check, const CheckFinding& finding) {
    return std::find(check.findings.begin(), check.findings.end(), finding) != check.findings.end();
  }
  bool mended(const CheckFinding& finding) const {
    if (!left || has(*left, finding)) return false;
    const bool gave_up = std::any_of(failed.begin(), failed.end(),
                                     [&](const auto& one) { return one.first == finding; });
    // A copy that is out of the set since is not looked at any more.
    const bool put_out = finding.replica && names_replica(*left, *finding.replica) &&
                         !names_replica(found, *finding.replica);
    return !gave_up && !put_out;
  }
  // What only the check after the repair found.
  std::vector<CheckFinding> fresh() const {
    std::vector<CheckFinding> list;
    for (const CheckFinding& finding : left ? left->findings : std::vector<CheckFinding>{}) {
      if (!has(found, finding)) list.push_back(finding);
    }
    return list;
  }
  int status() const {
    if (cut_off) return kOperational;
    const auto& now = left ? left->findings : found.findings;
    if (std::any_of(now.begin(), now.end(), is_error)) return kUncorrected;
    const bool any = std::any_of(found.findings.begin(), found.findings.end(), is_error);
    return any ? kCorrected : kClean;
  }
};

Json json_of(const std::string& root, const Examination& examined) {
  Json findings = Json::array();
  const auto add = [&](const CheckFinding& finding, bool mended) {
    Json one = {{"kind", name_of(finding.kind)},
                {"subject", finding.subject},
                {"what", finding.what},
                {"mended", mended}};
    if (finding.replica) one["replica"] = *finding.replica;
    if (finding.segment) {
      one["segment"] = *finding.segment;
      one["first_block"] = finding.first_block;
      one["blocks"] = finding.blocks;
    }
    if (finding.first_lba) {
      one["first_lba"] = *finding.first_lba;
      one["lbas"] = finding.lbas;
    }
    findings.push_back(std::move(one));
  };
  for (const CheckFinding& finding : examined.found.findings) {
    add(finding, examined.mended(finding));
  }
  const std::vector<CheckFinding> fresh = examined.fresh();
  for (const CheckFinding& finding : fresh) add(finding, false);
  Json failed = Json::array();
  for (const auto& [finding, why] : examined.failed) {
    failed.push_back({{"what", describe(finding)}, {"why", why}});
  }
  const RootCheck& found = examined.found;
  return {{"root", root},
          {"status", examined.status()},
          {"findings", std::move(findings)},
          {"not_mended", std::move(failed)},
          {"checked",
           {{"disks", found.disks},
            {"snapshots", found.snapshots},
            {"storages", found.storages},
            {"segments", found.segments},
            {"bytes", found.bytes}}}};
}

void print_report(const std::string& root, const Examination& examined) {
  for (const CheckFinding& finding : examined.found.findings) {
    print_text(fmt::format("{}: {}\n", examined.mended(finding) ? "mended" : name_of(finding.kind),
                           describe(finding)));
  }
  const std::vector<CheckFinding> fresh = examined.fresh();
  for (const CheckFinding& finding : fresh) {
    print_text(fmt::format("{}: {}\n", name_of(finding.kind), describe(finding)));
  }
  for (const auto& [finding, why] : examined.failed) {
    print_text(fmt::format("not mended: {}: {}\n", describe(finding), why));
  }
  const RootCheck& found = examined.found;
  static const std::map<int, const char*> kVerdicts = {
      {kClean, "clean"},
      {kCorrected, "errors were corrected"},
      {kUncorrected, "errors are left; what is mendable: clouddisk fsck --repair"},
      {kOperational, "the repair did not come to its end"}};
  print_text(fmt::format("{}: {} disks, {} snapshots, {} segments, {} read: {}\n", root,
                         found.disks, found.snapshots, found.segments, format_bytes(found.bytes),
                         kVerdicts.at(examined.status())));
}

int run_fsck(const Session& session, const FsckOptions& chosen) {
  if (!chosen.replicas.empty() && chosen.replicas.size() != kReplicaCount) {
    return fail_with(kUsage, "WrongUsage",
                     fmt::format("--replica: {} folders are given; give none or {}",
                                 chosen.replicas.size(), kReplicaCount));
  }
  std::error_code error;
  const std::string root = fs::absolute(session.root, error).lexically_normal().string();
  if (!fs::is_directory(root, error)) {
    return fail_with(kOperational, "InvalidRoot.NotFound",
                     fmt::format("there is no folder {}", root));
  }
  RootLock lock;
  if (auto taken = lock.take(root, chosen.repair); !taken) {
    const bool busy = taken.error().code == Errc::kBusy;
    return fail_with(kOperational, busy ? "OperationConflict" : "InternalError",
                     busy ? fmt::format("a daemon or another check holds {}: stop it first", root)
                          : taken.error().message);
  }
  set_log_level(LogLevel::kOff);
  auto ring = UringRing::create({});
  if (!ring) return fail_with(kOperational, "InternalError", ring.error().message);
  RootCheckOptions options;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    options.folders[i] = chosen.replicas.empty() ? fmt::format("{}/replica-{}", root, i + 1)
                                                 : fs::absolute(chosen.replicas[i]).string();
  }
  auto replaced = load_replacements(root + "/replicas");
  if (!replaced && chosen.replicas.empty()) {
    return fail_with(kOperational, "CheckFailed", replaced.error().message);
  }
  if (replaced) options.folders = with_replacements(options.folders, *replaced);
  std::array<RootLock, kReplicaCount> folder_locks;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (auto taken = folder_locks[i].take_folder(options.folders[i]); !taken) {
      return fail_with(
          kOperational, "OperationConflict",
          fmt::format("a daemon or another check holds {}: stop it first", options.folders[i]));
    }
  }
  options.index_root = root + "/index";
  options.disk = chosen.disk;
  Examination examined;
  {
    ProgressLine line;
    options.progress = [&line](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
    auto found = look(**ring, options);
    if (!found) return fail_with(kOperational, "CheckFailed", found.error().message);
    examined.found = std::move(*found);
  }
  const auto& findings = examined.found.findings;
  if (chosen.repair && std::any_of(findings.begin(), findings.end(), is_error)) {
    ProgressLine line;
    options.progress = [&line](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
    options.repair = true;
    auto repaired = (*ring)->block_on(check_root(**ring, options));
    if (repaired) {
      examined.failed = std::move(repaired->failed);
      auto left = look(**ring, options);
      if (left) {
        examined.left = std::move(*left);
      } else {
        examined.cut_off = left.error();
      }
    } else {
      examined.cut_off = repaired.error();
    }
  }
  if (session.json()) {
    print_json(json_of(root, examined));
  } else {
    print_report(root, examined);
  }
  if (examined.cut_off) print_failure({"RepairFailed", examined.cut_off->message});
  return examined.status();
}

}  // namespace

void add_fsck_command(CLI::App& root, Session& session) {
  CLI::App* command = add_command(
      root, "fsck", "Check everything that a stopped daemon keeps, and mend what can be mended",
      "  clouddisk --root /srv/cd fsck\n"
      "  clouddisk --root /srv/cd fsck --repair\n"
      "  clouddisk fsck --disk d-bp1example --output json\n"
      "Exit status: 0 clean, 1 errors corrected, 4 errors left, 8 it could not be done, 16 wrong "
      "usage.");
  auto options = std::make_shared<FsckOptions>();
  command
      ->add_option(
          "--replica", options->replicas,
          "Folder of a replica, as the daemon has them; none (DIR/replica-1 to -3) or three")
      ->type_name("DIR")
      ->take_all()
      ->expected(1);
  command
      ->add_option("--disk", options->disk,
                   "Read the contents of this disk and its snapshots alone")
      ->type_name("ID");
  command->add_flag("--repair", options->repair,
                    "Mend damaged copies from good ones, make indexes anew; "
                    "without it nothing is changed");
  command->callback([&session, options] {
    session.command = [&session, options] { return run_fsck(session, *options); };
  });
}

}  // namespace clouddisk::cli
