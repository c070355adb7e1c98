#include "tests/engine/control/error_codes_world.h"

#include <fmt/format.h>

namespace clouddisk {
namespace {

constexpr std::size_t kQuota = 11;  // above the ten that may be in progress

Control::Options options() {
  Control::Options options{.seed = 42};
  auto places = Places::parse({"r1", "r2"}, {"r1-a", "r1-b", "r2-a"});
  CHECK(places.has_value());
  options.places = *places;
  options.spec_cooling = std::chrono::hours(24 * 7);
  options.snapshot_quota = kQuota;
  return options;
}

Params essd(const char* size) {
  return {{"Size", size}, {"DiskCategory", "cloud_essd"}};
}

}  // namespace

ErrorCodes::World* ErrorCodes::world_ = nullptr;

ErrorCodes::World::World() : daemon(root.path(), options()) {
  ids["host"] = "i-local";
  make_instances();
  make_disks();
  make_snapshots();
  ids["policy"] =
      daemon.must("CreateAutoSnapshotPolicy", {{"timePoints", R"(["6"])"},
                                               {"repeatWeekdays", R"(["1"])"},
                                               {"retentionDays", "-1"}})["AutoSnapshotPolicyId"];
}

std::string ErrorCodes::World::disk(Params params, const std::string& instance) {
  std::string id = daemon.create_disk(std::move(params));
  if (!instance.empty()) daemon.attach(id, instance);
  return id;
}

void ErrorCodes::World::make_instances() {
  const auto with_disks = [this](const std::string& name, const std::string& instance) {
    ids[name] = instance;
    for (const auto& [device, disk] : disks_of(daemon, instance)) {
      ids[name + (device == "/dev/xvda" ? ".system" : ".data")] = disk["DiskId"];
    }
  };
  with_disks("running", with_data(daemon));
  with_disks("stopped", with_data(daemon));
  with_disks("far", run(daemon, {{"ZoneId", "r1-b"}}));
  with_disks("new", daemon
                        .must("CreateInstance", {{"ImageId", "local"},
                                                 {"InstanceType", "x"},
                                                 {"DataDisk.1.Size", "20"},
                                                 {"DataDisk.1.Category", "cloud_essd"}})
                        .value("InstanceId", ""));
  with_disks("protected", run(daemon, {{"DeletionProtection", "true"}}));
  Params full;
  for (int i = 1; i <= 16; ++i) {
    full[fmt::format("DataDisk.{}.Size", i)] = "20";
    full[fmt::format("DataDisk.{}.Category", i)] = "cloud_essd";
  }
  with_disks("full", run(daemon, full));
  ids["stopped.snapshot"] = take(daemon, ids["stopped.data"]);
  ids["system snapshot"] = take(daemon, ids["running.system"]);
  ids["image"] = make(daemon, {{"SnapshotId", ids["system snapshot"]}, {"ImageName", "base"}});
  with_disks("of image", run(daemon, {{"ImageId", ids["image"]}}));
  // One whose image is gone.
  const std::string snapshot = take(daemon, ids["running.system"]);
  const std::string image = make(daemon, {{"SnapshotId", snapshot}});
  with_disks("of no image", run(daemon, {{"ImageId", image}}));
  daemon.must("DeleteImage", {{"ImageId", image}, {"Force", "true"}});
  for (const char* name : {"stopped", "of no image"}) {
    daemon.must("StopInstance", {{"InstanceId", ids[name]}});
  }
}

void ErrorCodes::World::make_disks() {
  ids["free"] = disk(essd("40"), "");
  ids["used"] = disk(essd("40"));
  ids["auto"] = disk({{"Size", "40"}, {"DiskCategory", "cloud_auto"}}, "");
  ids["ultra"] = disk({{"Size", "40"}, {"DiskCategory", "cloud_efficiency"}});
  ids["far.free"] = disk({{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"ZoneId", "r1-b"}}, "");
  ids["prepaid"] = disk({{"Size", "1300"},
                         {"DiskCategory", "cloud_essd"},
                         {"PerformanceLevel", "PL2"},
                         {"InstanceId", "i-local"}},
                        "");
  ids["grown"] = disk(essd("500"));
  daemon.must("ResizeDisk", {{"DiskId", ids["grown"]}, {"NewSize", "600"}});
  ids["cooling"] = disk(essd("1300"), "");
  daemon.must("ModifyDiskSpec", {{"DiskId", ids["cooling"]}, {"PerformanceLevel", "PL2"}});
  ids["basic"] = disk({{"Size", "40"}, {"DiskCategory", "cloud"}}, "");
  Params tagged = essd("40");
  for (int i = 1; i <= 20; ++i) tagged[fmt::format("Tag.{}.Key", i)] = fmt::format("key{}", i);
  ids["tagged"] = disk(tagged, "");
  ids["large"] = disk(essd("20000"));
  ids["larger"] = disk(essd("20000"));
  ids["importing"] = daemon.must("BeginSnapshotImport", {{"ImageSize", "4096"}})["DiskId"];
  Params with_token = essd("40");
  with_token["ClientToken"] = "used";
  static_cast<void>(disk(with_token, ""));
}

void ErrorCodes::World::make_snapshots() {
  ids["snapshot"] = take(daemon, ids["used"]);
  ids["large snapshot"] = take(daemon, ids["large"]);
  ids["link"] = "sl-" + ids["used"].substr(2);
  static_cast<void>(take(daemon, ids["ultra"], false));
  ids["leaving"] = disk(essd("40"));
  static_cast<void>(take(daemon, ids["leaving"], false));
  daemon.must("DetachDisk", {{"DiskId", ids["leaving"]}, {"InstanceId", "i-local"}});
  ids["busy"] = disk(essd("40"));
  ids["busy's first"] = take(daemon, ids["busy"]);
  for (int i = 0; i < 10; ++i) ids["unfinished"] = take(daemon, ids["busy"], false);
  ids["at quota"] = disk(essd("40"));
  for (std::size_t i = 0; i < kQuota; ++i) static_cast<void>(take(daemon, ids["at quota"]));
  ids["failed"] = take(daemon, ids["used"], false);
  std::string reason = "no room";
  EXPECT_TRUE(daemon.machine.ring->block_on(
      daemon.host.events().capture_failed(ids["failed"], std::move(reason))));
  // Of a disk each; one of them loses its snapshot.
  ids["lender"] = take(daemon, ids["used"]);
  ids["borrower"] = disk({{"SnapshotId", ids["lender"]}, {"DiskCategory", "cloud_essd"}}, "");
  const std::string gone = take(daemon, ids["used"]);
  ids["orphan"] = disk({{"SnapshotId", gone}, {"DiskCategory", "cloud_essd"}}, "");
  daemon.must("DeleteSnapshot", {{"SnapshotId", gone}, {"Force", "true"}});
  daemon.must("CreateSnapshotGroup", {{"InstanceId", ids["of image"]}, {"ClientToken", "used"}});
  const Params with_token = {{"DiskId", ids["used"]}, {"ClientToken", "used"}};
  capture(daemon, daemon.must("CreateSnapshot", with_token)["SnapshotId"]);
}

Params ErrorCodes::read(const std::string& params) {
  Params parsed;
  for (std::size_t begin = 0; begin < params.size();) {
    const std::size_t end = std::min(params.find('&', begin), params.size());
    const std::string pair = params.substr(begin, end - begin);
    const std::size_t equals = pair.find('=');
    CHECK(equals != std::string::npos);
    std::string value = pair.substr(equals + 1);
    if (value.starts_with('$')) {
      const auto at = world().ids.find(value.substr(1));
      CHECK(at != world().ids.end());
      value = at->second;
    }
    parsed[pair.substr(0, equals)] = value;
    begin = end + 1;
  }
  return parsed;
}

Json ErrorCodes::everything() {
  Json all = Json::array();
  for (const char* action :
       {"DescribeDisks", "DescribeInstances", "DescribeSnapshots", "DescribeSnapshotGroups",
        "DescribeImages", "DescribeAutoSnapshotPolicyEx", "DescribeTags"}) {
    Json body = world().daemon.must(action, {{"PageSize", "100"}});
    body.erase("RequestId");
    for (Json& one : body["Snapshots"]["Snapshot"]) one.erase("RemainTime");
    all.push_back(std::move(body));
  }
  return all;
}

void ErrorCodes::expect_all(std::initializer_list<BrokenRule> rules) {
  const Json before = everything();
  for (const BrokenRule& one : rules) {
    SCOPED_TRACE(fmt::format("{}: {}", one.action, one.rule));
    EXPECT_REFUSED(world().daemon.ask(one.action, read(one.params)), one.http_status, one.code);
  }
  EXPECT_TRUE(everything() == before) << "a refusal changes nothing";
}

std::string tags_of(int count) {
  std::string text;
  for (int i = 1; i <= count; ++i) text += fmt::format("&Tag.{}.Key=k{}", i, i);
  return text;
}

std::string ids_of(int count, const std::string& name, const std::string& value) {
  std::string text;
  for (int i = 1; i <= count; ++i) text += fmt::format("&{}.{}={}", name, i, value);
  return text;
}

}  // namespace clouddisk
