#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <thread>

#include "engine/base/units.h"
#include "tools/clouddisk/mount.h"
#include "tools/clouddisk/process.h"
#include "tools/clouddisk/session.h"
#include "tools/clouddisk/snapshot_files.h"
#include "tools/clouddisk/snapshot_lookup.h"
#include "tools/clouddisk/table.h"

namespace clouddisk::cli {
namespace {

constexpr std::chrono::hours kDiffMax(24);

CLI::Option* add_snapshot_id(CLI::App* command, std::string& id) {
  return command->add_option("SNAPSHOT", id, "The snapshot's id, s-…")->required()->type_name("");
}
CLI::Option* add_source_disk(CLI::App* command, std::string& id) {
  return command->add_option("DISK", id, "The disk's id, d-…")->required()->type_name("");
}

std::string size_text(const Json& snapshot) {
  return text_of(snapshot, "SourceDiskSize") + " GiB";
}

std::string snapshots_table(const Json& snapshots) {
  Table table({{"SNAPSHOT"},
               {"NAME"},
               {"DISK"},
               {"SIZE", true},
               {"STATUS"},
               {"PROGRESS", true},
               {"CHANGED", true},
               {"STORED", true},
               {"CREATED"}});
  for (const Json& one : snapshots) {
    table.add_row({text_of(one, "SnapshotId"), text_of(one, "SnapshotName"),
                   text_of(one, "SourceDiskId"), size_text(one), text_of(one, "Status"),
                   text_of(one, "Progress"), format_bytes(number_of(one, "ChangedBytes")),
                   format_bytes(number_of(one, "StoredBytes")), text_of(one, "CreationTime")});
  }
  return table.text();
}

void add_create(CLI::App& parent, Session& session) {
  struct Arguments {
    std::string disk;
    std::optional<std::string> name, description, retention;
    bool wait = false;
  };
  CLI::App* command =
      add_command(parent, "create", "Take a snapshot of a disk and print its id; the disk goes on",
                  "  clouddisk snapshot create d-bp1example --name before-upgrade\n"
                  "  clouddisk snapshot create d-bp1example --wait      # until it is captured");
  auto arguments = std::make_shared<Arguments>();
  add_source_disk(command, arguments->disk);
  command
      ->add_option("--name", arguments->name,
                   "2 to 128 characters, beginning with a letter, and not with auto, http:// or "
                   "https://")
      ->type_name("TEXT");
  command->add_option("--description", arguments->description, "2 to 256 characters")
      ->type_name("TEXT");
  command
      ->add_option("--retention-days", arguments->retention,
                   "1 to 65536: after so many days it is deleted, unless disks were made from it; "
                   "default: for ever")
      ->type_name("DAYS");
  command->add_flag("--wait", arguments->wait, "Return when it no longer depends on the disk");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params{{"DiskId", arguments->disk}};
    if (arguments->name) params["SnapshotName"] = *arguments->name;
    if (arguments->description) params["Description"] = *arguments->description;
    if (arguments->retention) params["RetentionDays"] = *arguments->retention;
    auto answer = api.call("CreateSnapshot", params);
    if (!answer) return answer.failure();
    const std::string id = text_of(*answer, "SnapshotId");
    if (arguments->wait) {
      if (auto done = wait_until_captured(api, id); !done) return done.failure();
    }
    if (session.json()) {
      print_json(*answer);
    } else {
      print_text(id + "\n");
      if (const auto directory = mounted_at(session.root, arguments->disk)) {
        fmt::print(stderr,
                   "note: {0} holds what the file system at {1} had written by then, as after a "
                   "power cut; for everything: sync -f {1}, or fsfreeze -f {1} and -u around it\n",
                   id, *directory);
      }
    }
    return Done{};
  });
}

void add_list(CLI::App& parent, Session& session) {
  struct Arguments {
    std::optional<std::string> disk, status;
    bool ids_only = false;
  };
  CLI::App* command = add_command(parent, "list", "Show snapshots, newest first",
                                  "  clouddisk snapshot list\n"
                                  "  clouddisk snapshot list --disk d-bp1example\n"
                                  "  clouddisk snapshot list --status progressing --ids");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--disk", arguments->disk, "Only those of this disk")->type_name("ID");
  command->add_option("--status", arguments->status, "progressing, accomplished or failed")
      ->type_name("STATUS");
  command->add_flag("--ids", arguments->ids_only, "Print the ids alone, one a line");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    Params params;
    if (arguments->disk) params["DiskId"] = *arguments->disk;
    if (arguments->status) params["Status"] = *arguments->status;
    auto answer = api.call_all("DescribeSnapshots", params, "Snapshots", "Snapshot");
    if (!answer) return answer.failure();
    const Json& snapshots = (*answer)["Snapshots"]["Snapshot"];
    if (arguments->ids_only) {
      for (const Json& one : snapshots) print_text(text_of(one, "SnapshotId") + "\n");
    } else if (session.json()) {
      print_json(*answer);
    } else {
      print_text(snapshots_table(snapshots));
    }
    return Done{};
  });
}

// The snapshot that it holds the changes against, by id.
Outcome<std::string> parent_text(const ApiClient& api, const Json& snapshot) {
  const std::string parent = text_of(snapshot, "ParentSN");
  if (parent == "0") {
    return std::string(text_of(snapshot, "SnapshotSN") == "1"
                           ? "nothing (first of its chain)"
                           : "nothing (it descends from no other of its chain)");
  }
  auto chain =
      api.call_all("DescribeSnapshots", {{"SnapshotLinkId", text_of(snapshot, "SnapshotLinkId")}},
                   "Snapshots", "Snapshot");
  if (!chain) return chain.failure();
  for (const Json& one : (*chain)["Snapshots"]["Snapshot"]) {
    if (text_of(one, "SnapshotSN") == parent) return text_of(one, "SnapshotId");
  }
  return fmt::format("number {} in the chain, which was deleted", parent);
}

std::string copied_from(const Json& snapshot) {
  const std::string source = text_of(snapshot, "SourceSnapshotId");
  if (source.empty()) return {};
  return fmt::format("{} in {}", source, text_of(snapshot, "SourceRegionId"));
}

std::string retention_text(const Json& snapshot) {
  const std::uint64_t days = number_of(snapshot, "RetentionDays");
  if (days == 0) return {};
  return fmt::format("{} {}", days, days == 1 ? "day" : "days");
}

void add_show(CLI::App& parent, Session& session) {
  CLI::App* command = add_command(parent, "show", "Show everything about one snapshot",
                                  "  clouddisk snapshot show s-bp1example");
  auto id = std::make_shared<std::string>();
  add_snapshot_id(command, *id);
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    auto found = describe_snapshot(api, *id);
    if (!found) return found.failure();
    if (session.json()) {
      print_json(*found);
      return Done{};
    }
    auto exported = api.snapshot_export(*id);
    const Json& one = *found;
    auto against = parent_text(api, one);
    if (!against) return against.failure();
    const std::string usage = text_of(one, "Usage");
    print_text(fields_text({{"id", text_of(one, "SnapshotId")},
                            {"name", text_of(one, "SnapshotName")},
                            {"description", text_of(one, "Description")},
                            {"disk", text_of(one, "SourceDiskId")},
                            {"copied from", copied_from(one)},
                            {"region", text_of(one, "RegionId")},
                            {"size", size_text(one)},
                            {"status", text_of(one, "Status")},
                            {"failure", text_of(one, "Failure")},
                            {"progress", text_of(one, "Progress")},
                            {"chain", text_of(one, "SnapshotLinkId")},
                            {"number in chain", text_of(one, "SnapshotSN")},
                            {"changed against", *against},
                            {"changed", format_bytes(number_of(one, "ChangedBytes"))},
                            {"stored", format_bytes(number_of(one, "StoredBytes"))},
                            {"used for", usage == "none" ? "" : usage},
                            {"retention", retention_text(one)},
                            {"created", text_of(one, "CreationTime")},
                            {"nbd", exported ? exported->uri : std::string()}}));
    return Done{};
  });
}

// The chain as a tree: a snapshot below the one that its content descends from.
std::string chain_tree(std::vector<Json> snapshots, std::uint64_t current) {
  std::sort(snapshots.begin(), snapshots.end(), [](const Json& a, const Json& b) {
    return std::stoull(text_of(a, "SnapshotSN")) < std::stoull(text_of(b, "SnapshotSN"));
  });
  std::map<std::uint64_t, std::vector<const Json*>> children;
  std::map<std::uint64_t, bool> known;
  for (const Json& one : snapshots) known[std::stoull(text_of(one, "SnapshotSN"))] = true;
  for (const Json& one : snapshots) {
    const std::uint64_t parent = std::stoull(text_of(one, "ParentSN"));
    children[known.count(parent) != 0 ? parent : 0].push_back(&one);
  }
  std::string text;
  const std::function<void(std::uint64_t, const std::string&)> add =
      [&](std::uint64_t parent, const std::string& indent) {
        const auto it = children.find(parent);
        if (it == children.end()) return;
        // A straight line stays at its depth; a rollback opens a branch.
        for (std::size_t i = 0; i < it->second.size(); ++i) {
          const Json& one = *it->second[i];
          const std::uint64_t seq = std::stoull(text_of(one, "SnapshotSN"));
          const bool last = i + 1 == it->second.size();
          text +=
              fmt::format("{}{} {}  {}  {} changed, {} stored  {}{}\n", indent, last ? "o" : "o-",
                          text_of(one, "SnapshotId"),
                          text_of(one, "SnapshotName").empty() ? "-" : text_of(one, "SnapshotName"),
                          format_bytes(number_of(one, "ChangedBytes")),
                          format_bytes(number_of(one, "StoredBytes")), text_of(one, "Status"),
                          seq == current ? "  <- the disk" : "");
          add(seq, last ? indent : indent + "| ");
        }
      };
  add(0, "");
  return text;
}

std::string chain_legend(const std::vector<Json>& snapshots, bool has_disk, std::uint64_t current) {
  const bool marked = std::any_of(snapshots.begin(), snapshots.end(), [&](const Json& one) {
    return std::stoull(text_of(one, "SnapshotSN")) == current;
  });
  std::string_view where = "<- the disk: what the disk descends from now";
  if (!has_disk) {
    where = "the disk is gone";
  } else if (!marked) {
    where = "the disk descends from none of them now";
  }
  return fmt::format("each stands below the one it descends from; {}\n", where);
}

void add_chain(CLI::App& parent, Session& session) {
  CLI::App* command = add_command(
      parent, "chain", "Show a disk's snapshots as a tree: sizes, and where rollbacks went",
      "  clouddisk snapshot chain d-bp1example");
  auto id = std::make_shared<std::string>();
  add_source_disk(command, *id);
  on_call(command, session, [id, &session](const ApiClient& api) -> Verdict {
    if (id->starts_with("s-")) {
      return refuse("InvalidDiskId.NotFound",
                    "{} is a snapshot: give its disk, which is shown by: clouddisk snapshot show "
                    "{}",
                    *id, *id);
    }
    auto answer = api.call_all("DescribeSnapshots", {{"DiskId", *id}}, "Snapshots", "Snapshot");
    if (!answer) return answer.failure();
    auto links = api.call("DescribeSnapshotLinks", {{"DiskIds", Json::array({*id}).dump()}});
    if (!links) return links.failure();
    const Json& found = (*links)["SnapshotLinks"]["SnapshotLink"];
    // The snapshots of a disk outlive it.
    auto disk = api.disk(*id);
    if (!disk && (found.empty() || disk.failure().code != "InvalidDiskId.NotFound")) {
      return disk.failure();
    }
    if (session.json()) {
      print_json({{"Chain", found.empty() ? Json() : found[0]},
                  {"Snapshots", (*answer)["Snapshots"]["Snapshot"]}});
      return Done{};
    }
    if (found.empty()) {
      print_text(fmt::format("disk {} has no snapshots\n", *id));
      return Done{};
    }
    const Json& link = found[0];
    const std::vector<Json> snapshots = (*answer)["Snapshots"]["Snapshot"];
    print_text(fmt::format("{} of {}: {} snapshot{}, {} stored\n", text_of(link, "SnapshotLinkId"),
                           *id, number_of(link, "TotalCount"),
                           number_of(link, "TotalCount") == 1 ? "" : "s",
                           format_bytes(number_of(link, "TotalSize"))));
    constexpr std::uint64_t kNowhere = 0;  // no snapshot has that number
    const std::uint64_t current = disk ? number_of(link, "CurrentSN") : kNowhere;
    print_text(chain_tree(snapshots, current));
    print_text(chain_legend(snapshots, static_cast<bool>(disk), current));
    return Done{};
  });
}

void add_uri(CLI::App& parent, Session& session) {
  CLI::App* command =
      add_command(parent, "uri", "Print the NBD URI of a snapshot, which is read-only",
                  "  nbdcopy \"$(clouddisk snapshot uri s-bp1example)\" before.raw");
  auto id = std::make_shared<std::string>();
  add_snapshot_id(command, *id);
  on_call(command, session, [id](const ApiClient& api) -> Verdict {
    auto exported = api.snapshot_export(*id);
    if (!exported) return exported.failure();
    print_text(exported->uri + "\n");
    return Done{};
  });
}

// The export of `newer`, when it is of the same disk.
Outcome<std::string> uri_to_compare(const ApiClient& api, const std::string& older,
                                    const std::string& newer) {
  if (older == newer) {
    return refuse("DiffFailed", "Both are {}, which does not differ from itself; give another",
                  older);
  }
  if (older.starts_with("d-")) {
    if (newer.starts_with("d-")) {
      return refuse("DiffFailed", "{} is a disk; give a snapshot of {} to compare it with", older,
                    newer);
    }
    return refuse("DiffFailed", "The snapshot stands first: clouddisk snapshot diff {} {}", newer,
                  older);
  }
  auto base = describe_snapshot(api, older);
  if (!base) return base.failure();
  const std::string base_disk = text_of(*base, "SourceDiskId");
  const bool live = newer.starts_with("d-");
  auto other = live ? api.disk(newer) : describe_snapshot(api, newer);
  if (!other) return other.failure();
  const std::string disk = text_of(*other, live ? "DiskId" : "SourceDiskId");
  if (disk != base_disk) {
    return refuse("DiffFailed", "{} is a snapshot of disk {}, not of {}{}: give two of one disk",
                  older, base_disk, live ? "" : "disk " + disk + " as is ", newer);
  }
  if (!live && text_of(*base, "SnapshotLinkId") != text_of(*other, "SnapshotLinkId")) {
    return refuse("DiffFailed", "{} and {} are copies from different disks or in different regions",
                  older, newer);
  }
  if (live) {
    auto exports = api.exports(newer);
    if (!exports) return exports.failure();
    return exports->front().uri;
  }
  auto exported = api.snapshot_export(newer);
  if (!exported) return exported.failure();
  return exported->uri;
}

// Through the context that the export offers, as any backup program would.
void add_diff(CLI::App& parent, Session& session) {
  struct Arguments {
    std::string older, newer;
  };
  CLI::App* command = add_command(
      parent, "diff", "Show the extents in which a snapshot or disk differs from an older snapshot",
      "  clouddisk snapshot diff s-bp1older s-bp1newer\n"
      "  clouddisk snapshot diff s-bp1older d-bp1example --output json");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("OLDER", arguments->older, "A snapshot, s-…")->required()->type_name("");
  command->add_option("NEWER", arguments->newer, "Another of the same disk, or the disk, d-…")
      ->required()
      ->type_name("");
  on_call(command, session, [arguments, &session](const ApiClient& api) -> Verdict {
    auto found = uri_to_compare(api, arguments->older, arguments->newer);
    if (!found) return found.failure();
    const std::string uri = *found;
    if (find_program("nbdinfo").empty()) {
      return refuse("ProgramMissing", "nbdinfo reads it: install the package libnbd-bin");
    }
    auto result = run_program(
        {"nbdinfo", "--json", "--map=clouddisk:changed-since:" + arguments->older, uri}, kDiffMax);
    if (!result) return result.failure();
    if (!result->ok()) {
      return Failure{"DiffFailed", fmt::format("{} can't be compared with {}: {}", arguments->newer,
                                               arguments->older, result->complaint())};
    }
    const Json map = Json::parse(result->output, nullptr, false);
    if (!map.is_array()) return refuse("DiffFailed", "nbdinfo answered something else");
    Json changed = Json::array();
    Table table({{"OFFSET", true}, {"LENGTH", true}});
    std::uint64_t bytes = 0;
    for (const Json& extent : map) {
      if (number_of(extent, "type") != 1) continue;
      const std::uint64_t offset = number_of(extent, "offset");
      const std::uint64_t length = number_of(extent, "length");
      changed.push_back({{"Offset", offset}, {"Length", length}});
      table.add_row({with_thousands(offset), with_thousands(length)});
      bytes += length;
    }
    if (session.json()) {
      print_json({{"ChangedBytes", bytes}, {"Extents", changed}});
    } else {
      print_text(table.empty() ? std::string() : table.text());
      print_text(fmt::format("{} in {} {}\n", format_bytes(bytes), changed.size(),
                             changed.size() == 1 ? "extent" : "extents"));
    }
    return Done{};
  });
}

void add_delete(CLI::App& parent, Session& session) {
  struct Arguments {
    std::vector<std::string> ids;
    bool force = false;
  };
  CLI::App* command = add_command(parent, "delete", "Delete snapshots; others lose nothing by it",
                                  "  clouddisk snapshot delete s-bp1example\n"
                                  "  clouddisk snapshot delete s-bp1example --force");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("SNAPSHOT", arguments->ids, "Ids, s-…")->required()->type_name("");
  command->add_flag("--force", arguments->force,
                    "Even if disks were made from it: they can't be re-initialised afterwards");
  on_call(command, session, [arguments](const ApiClient& api) -> Verdict {
    for (const std::string& id : arguments->ids) {
      auto answer = api.call("DeleteSnapshot",
                             {{"SnapshotId", id}, {"Force", arguments->force ? "true" : "false"}});
      if (!answer) {
        Failure failure = answer.failure();
        if (failure.code == "SnapshotCreatedDisk") {
          failure.message += fmt::format(" With: clouddisk snapshot delete {} --force", id);
        }
        return failure;
      }
    }
    return Done{};
  });
}

}  // namespace

void add_snapshot_commands(CLI::App& root, Session& session) {
  CLI::App* snapshot = add_noun(root, "snapshot", "Take, show, copy and delete snapshots",
                                "  clouddisk snapshot create d-bp1example --name before-upgrade\n"
                                "  clouddisk snapshot list\n"
                                "  clouddisk disk rollback d-bp1example --snapshot s-bp1example");
  add_create(*snapshot, session);
  add_list(*snapshot, session);
  add_show(*snapshot, session);
  add_chain(*snapshot, session);
  add_uri(*snapshot, session);
  add_diff(*snapshot, session);
  add_delete(*snapshot, session);
  add_snapshot_copy(*snapshot, session);
  add_snapshot_modify(*snapshot, session);
  add_snapshot_files(*snapshot, session);
}

}  // namespace clouddisk::cli
