// change_scope.cc: what a change is about, and so which others may be made beside it.
//
// A change has for itself whatever it puts on record anew, and shares with others what only has to
// stay as it is: the snapshot that a disk is made of, the policy that is applied to it. Whoever
// would have to look through everything to say what that is has everything.
#include <algorithm>

#include "engine/catalog/image_rules.h"
#include "engine/catalog/policy_rules.h"
#include "engine/catalog/snapshot_rules.h"
#include "engine/control/control_impl.h"
#include "engine/control/describe_page.h"

namespace clouddisk {
namespace {

// What is no id, and not like one.
constexpr std::string_view kImageNames = "image named ";

// Whether it is `member`, or that of a structure: DataDisk.1.SnapshotId of SnapshotId.
bool is_member(std::string_view name, std::string_view member) {
  const std::string_view last = name.substr(name.rfind('.') + 1);  // npos + 1 is 0
  const NameLess less;
  return !less(last, member) && !less(member, last);
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Whether it changes the snapshot that SnapshotId is.
bool changes_its_snapshot(std::string_view action) {
  return is_one_of(action, {"DeleteSnapshot", "ModifySnapshotAttribute"});
}

bool changes_its_image(std::string_view action) {
  return is_one_of(action, {"DeleteImage", "ModifyImageAttribute", "ModifyImageSharePermission"});
}

bool uses_image(std::string_view action) {
  return is_one_of(action, {"RunInstances", "CreateInstance", "ReplaceSystemDisk"});
}

// Starting, stopping or limiting an instance is a matter of each of its disks, too; a group and an
// image are of all that it has.
bool is_about_disks_of_instance(std::string_view action) {
  return action.ends_with("Instance") || action.ends_with("Instances") ||
         is_one_of(action, {"ModifyInstanceLimits", "CreateSnapshotGroup", "CreateImage",
                            "ReplaceSystemDisk"});
}

}  // namespace

void Control::Impl::add_disk(const std::string& id, bool goes, Scope& scope) const {
  scope.own.insert(id);
  const DiskRecord* disk = catalog->find_disk(id);
  if (disk == nullptr || !goes) return;
  for (const SnapshotRecord* one : snapshots_that_go_with(*disk, catalog->snapshots_of_disk(id))) {
    scope.own.insert(one->id);
  }
}

void Control::Impl::add_instance(const std::string& id, bool goes, Scope& scope) const {
  scope.own.insert(id);
  for (const DiskRecord* disk : catalog->disks_of(id)) add_disk(disk->id, goes, scope);
}

void Control::Impl::add_named(const Entry& entry, const ParamReader& reader, Scope& scope) const {
  // With the automatic snapshots of what is deleted.
  const bool goes = entry.name.starts_with("Delete") || entry.name == "ReplaceSystemDisk";
  std::vector<std::string> instances = reader.list("InstanceId");
  if (const auto id = reader.optional_text("InstanceId")) instances.push_back(*id);
  for (const std::string& id : instances) {
    scope.own.insert(id);
    if (is_about_disks_of_instance(entry.name)) add_instance(id, goes, scope);
  }
  for (const char* name : {"DiskId", "ResourceId", "SnapshotGroupId"}) {
    if (const auto id = reader.optional_text(name)) add_disk(*id, goes, scope);
  }
  for (const char* name : {"DiskId", "DiskIds", "ResourceId"}) {
    for (std::string& id : reader.list(name)) scope.own.insert(std::move(id));
  }
  for (const Params& members : reader.structures("Disk")) {
    if (const auto id = ParamReader(members).optional_text("DiskId")) scope.own.insert(*id);
  }
  const auto snapshot_id = reader.optional_text("SnapshotId");
  if (snapshot_id && changes_its_snapshot(entry.name)) scope.own.insert(*snapshot_id);
  const std::string group = reader.text("SnapshotGroupId");
  if (entry.name == "DeleteSnapshotGroup" && !group.empty()) {
    for (const auto& [id, snapshot] : catalog->snapshots()) {
      if (snapshot.group_id != group) continue;
      scope.own.insert(id);
      scope.own.insert(snapshot.disk_id);
    }
  }
  const auto image = reader.optional_text("ImageId");
  if (image && changes_its_image(entry.name)) scope.own.insert(*image);
  // Names of images are theirs alone.
  const auto image_name = reader.optional_text("ImageName");
  if (image_name && is_one_of(entry.name, {"CreateImage", "ModifyImageAttribute"})) {
    scope.own.insert(std::string(kImageNames) + *image_name);
  }
  if (entry.name == "ReInitDisk" && reader.has("AutoStartInstance")) {
    const DiskRecord* disk = catalog->find_disk(reader.text("DiskId"));
    const std::string instance = disk != nullptr ? disk->instance_id : std::string();
    if (!instance.empty()) add_instance(instance, false, scope);
  }
}

// Those of a policy's own actions, which name it and its disks in their own way, and what applies
// one to a disk that it makes.
void Control::Impl::add_policies(const Entry& entry, const ControlRequest& request,
                                 Scope& scope) const {
  if (!entry.name.ends_with("AutoSnapshotPolicy") && entry.name != "ModifyAutoSnapshotPolicyEx") {
    for (const auto& [name, value] : request.params) {
      if (is_member(name, "AutoSnapshotPolicyId")) scope.shared.insert(value);
    }
    return;
  }
  ParamReader reader(request.params);
  const std::string policy = reader.text("autoSnapshotPolicyId");
  const auto disks = reader.json_list("diskIds", kIdsMax, 403, "ParameterInvalid");
  if (disks) scope.own.insert(disks->begin(), disks->end());
  const bool changes_it =
      is_one_of(entry.name, {"ModifyAutoSnapshotPolicyEx", "DeleteAutoSnapshotPolicy"});
  if (!policy.empty()) (changes_it ? scope.own : scope.shared).insert(policy);
  if (entry.name != "DeleteAutoSnapshotPolicy") return;
  for (const auto& [id, disk] : catalog->disks()) {
    if (is_under(disk, policy)) scope.own.insert(id);
  }
}

// Snapshots, and the image, that disks are made of.
void Control::Impl::add_sources(const Entry& entry, const ControlRequest& request,
                                Scope& scope) const {
  const ParamReader& reader = request.reader;
  const auto add = [&scope](const Params& members) {
    if (const auto id = ParamReader(members).optional_text("SnapshotId")) scope.shared.insert(*id);
  };
  if (!changes_its_snapshot(entry.name)) add(request.params);
  for (const char* name : {"DataDisk", "DiskDeviceMapping", "Disk"}) {
    for (const Params& members : reader.structures(name)) add(members);
  }
  std::string image_id;
  if (uses_image(entry.name)) image_id = reader.text("ImageId");
  if (entry.name == "ReInitDisk") {
    const DiskRecord* disk = catalog->find_disk(reader.text("DiskId"));
    if (disk != nullptr && !disk->source_snapshot.empty()) {
      scope.shared.insert(disk->source_snapshot);
    }
    if (disk != nullptr) image_id = disk->image_id;
  }
  if (!is_custom_image(image_id)) return;
  scope.shared.insert(image_id);
  const ImageRecord* image = catalog->find_image(image_id);
  if (image == nullptr) return;
  for (const ImageDisk& disk : image->disks) {
    if (!disk.snapshot_id.empty()) scope.shared.insert(disk.snapshot_id);
  }
}

Control::Impl::Scope Control::Impl::scope_of(const Entry& entry,
                                             const ControlRequest& request) const {
  Scope scope;
  // Of a family, whichever image is the newest.
  scope.all = !entry.own_ids || (uses_image(entry.name) && request.reader.has("ImageFamily"));
  if (scope.all) return scope;
  add_named(entry, request.reader, scope);
  add_policies(entry, request, scope);
  add_sources(entry, request, scope);
  if (const auto token = request.reader.optional_text("ClientToken")) {
    scope.own.insert(token_key(entry.name, *token));
  }
  return scope;
}

Task<ChangeLocks::Guard> Control::Impl::lock_for(const Entry& entry, ControlRequest& request) {
  while (true) {
    const Scope scope = scope_of(entry, request);
    if (scope.all) co_return co_await changing.lock_all();
    ChangeLocks::Keys own = scope.own, shared = scope.shared;
    auto guard = co_await changing.lock_revisable(std::move(own), std::move(shared));
    // While it waited, an instance may have got another disk, a disk its first snapshot.
    if (!guard.is_outdated() && scope_of(entry, request) == scope) co_return guard;
  }
}

}  // namespace clouddisk
