#include "engine/catalog/snapshot_rules.h"

#include <gtest/gtest.h>

namespace clouddisk {
namespace {

DiskRecord disk() {
  DiskRecord disk;
  disk.id = "d-1";
  disk.category = "cloud_essd";
  disk.status = DiskStatus::kInUse;
  disk.attached = WallTime(Duration(1));
  return disk;
}
SnapshotRecord snapshot(SnapshotStatus status = SnapshotStatus::kAccomplished) {
  SnapshotRecord snapshot;
  snapshot.id = "s-1";
  snapshot.disk_id = "d-1";
  snapshot.status = status;
  snapshot.size_bytes = 40_GiB;
  return snapshot;
}
std::vector<const SnapshotRecord*> pointers(const std::vector<SnapshotRecord>& all) {
  std::vector<const SnapshotRecord*> list;
  for (const SnapshotRecord& one : all) list.push_back(&one);
  return list;
}
void expect(const Verdict& verdict, int status, std::string_view code) {
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->http_status, status) << verdict->message;
  EXPECT_EQ(verdict->code, code);
}

TEST(SnapshotRules, Names) {
  EXPECT_FALSE(snapshot_name_must_be_allowed("before-upgrade"));
  for (const char* name : {"auto", "automatic", "x", "http://x", "1st"}) {
    expect(snapshot_name_must_be_allowed(name), 400, "InvalidSnapshotName.Malformed");
  }
}

TEST(SnapshotRules, Retention) {
  EXPECT_FALSE(retention_must_fit(1));
  EXPECT_FALSE(retention_must_fit(65'536));
  expect(retention_must_fit(0), 400, "InvalidRetentionDays.Malformed");
  expect(retention_must_fit(65'537), 400, "InvalidRetentionDays.Malformed");
}

TEST(SnapshotRules, OneStaysLongerAndNeverShorter) {
  SnapshotRecord kept = snapshot();
  expect(retention_must_not_shrink(kept, 65'536), 400, "InvalidRetentionDays.Malformed");
  kept.retention_days = 7;
  EXPECT_FALSE(retention_must_not_shrink(kept, 7));
  EXPECT_FALSE(retention_must_not_shrink(kept, 8));
  expect(retention_must_not_shrink(kept, 6), 400, "InvalidRetentionDays.Malformed");
}

TEST(SnapshotRules, Categories) {
  EXPECT_FALSE(snapshot_category_must_be_known("standard"));
  EXPECT_FALSE(snapshot_category_must_be_known("flash"));
  expect(snapshot_category_must_be_known("gold"), 403, "InvalidSnapshotCategory.Malformed");
}

TEST(SnapshotRules, OnlyADiskAtRestThatWasAttachedOnce) {
  DiskRecord one = disk();
  EXPECT_FALSE(disk_must_allow_snapshot(one));
  one.status = DiskStatus::kAvailable;
  EXPECT_FALSE(disk_must_allow_snapshot(one));
  one.status = DiskStatus::kReIniting;
  expect(disk_must_allow_snapshot(one), 403, "IncorrectDiskStatus");
  one = disk();
  one.attached = {};
  expect(disk_must_allow_snapshot(one), 403, "IncorrectDiskStatus.NeverAttached");
}

TEST(SnapshotRules, TenAtATimeForEssdOneForOthers) {
  std::vector<SnapshotRecord> all(9, snapshot(SnapshotStatus::kProgressing));
  EXPECT_FALSE(capture_must_have_room(disk(), pointers(all)));
  all.push_back(snapshot(SnapshotStatus::kProgressing));
  expect(capture_must_have_room(disk(), pointers(all)), 403, "QuotaExceed.ConcurrentSnapshotQuota");
  all.back().hidden = true;
  EXPECT_FALSE(capture_must_have_room(disk(), pointers(all)));
  DiskRecord ssd = disk();
  ssd.category = "cloud_ssd";
  const std::vector<SnapshotRecord> one(1, snapshot(SnapshotStatus::kProgressing));
  expect(capture_must_have_room(ssd, pointers(one)), 403, "IncorrectDiskStatus.CreatingSnapshot");
  const std::vector<SnapshotRecord> done(1, snapshot());
  EXPECT_FALSE(capture_must_have_room(ssd, pointers(done)));
  for (const char* category : {"cloud_auto", "cloud_essd_entry", "cloud_regional_disk_auto"}) {
    DiskRecord of_the_family = disk();
    of_the_family.category = category;
    EXPECT_FALSE(capture_must_have_room(of_the_family, pointers(one))) << category;
  }
}

TEST(SnapshotRules, QuotasOfManualAndAutomaticOnes) {
  std::vector<SnapshotRecord> all(255, snapshot());
  EXPECT_FALSE(quota_must_have_room(pointers(all)));
  all.push_back(snapshot());
  expect(quota_must_have_room(pointers(all)), 403, "QuotaExceed.Snapshot");
  EXPECT_FALSE(quota_must_have_room(pointers(all), 1000));
  all.back().automatic = true;
  EXPECT_FALSE(quota_must_have_room(pointers(all)));
  all.back() = snapshot();
  all.back().hidden = true;
  EXPECT_FALSE(quota_must_have_room(pointers(all)));
  std::vector<SnapshotRecord> automatic(1000, snapshot());
  for (std::size_t i = 0; i < automatic.size(); ++i) {
    automatic[i].automatic = true;
    automatic[i].seq = 2000 - i;
  }
  EXPECT_EQ(oldest_automatic_over_quota(pointers(automatic)), &automatic.back());
  automatic.front().hidden = true;
  EXPECT_EQ(oldest_automatic_over_quota(pointers(automatic)), nullptr);
  automatic.front().hidden = false;
  automatic.pop_back();
  EXPECT_EQ(oldest_automatic_over_quota(pointers(automatic)), nullptr);
}

TEST(SnapshotRules, UsingOne) {
  EXPECT_FALSE(snapshot_must_be_usable(snapshot()));
  EXPECT_FALSE(snapshot_must_be_usable(snapshot(SnapshotStatus::kProgressing)));
  expect(snapshot_must_be_usable(snapshot(SnapshotStatus::kFailed)), 403,
         "InvalidSnapshotId.NotReady");
  expect(snapshot_must_be_usable(snapshot(SnapshotStatus::kDeleting)), 403,
         "InvalidSnapshotId.NotReady");
  EXPECT_FALSE(snapshot_must_be_accomplished(snapshot()));
  for (const SnapshotStatus status :
       {SnapshotStatus::kProgressing, SnapshotStatus::kFailed, SnapshotStatus::kDeleting}) {
    expect(snapshot_must_be_accomplished(snapshot(status)), 403, "InvalidSnapshotId.NotReady");
  }
  SnapshotRecord local = snapshot();
  local.region = "r1";
  EXPECT_FALSE(copy_must_go_elsewhere(local, "r2"));
  expect(copy_must_go_elsewhere(local, "r1"), 400, "InvalidDestinationRegionId");
  SnapshotRecord system = snapshot();
  system.system = true;
  expect(snapshot_must_be_of_a_data_disk(system), 403, "InvalidSnapshotId.NotDataDiskSnapshot");
  EXPECT_FALSE(snapshot_must_be_of_a_data_disk(snapshot()));
  EXPECT_FALSE(size_must_hold_snapshot(40, snapshot()));
  expect(size_must_hold_snapshot(39, snapshot()), 403, "InvalidDiskSize.TooSmall");
  const std::vector<std::string> ids = {"d-a", "d-b", "d-c", "d-d"};
  EXPECT_FALSE(snapshot_must_not_have_disks(snapshot(), {}, false));
  EXPECT_FALSE(snapshot_must_not_have_disks(snapshot(), ids, true));
  const auto one = snapshot_must_not_have_disks(snapshot(), std::span(ids).first(1), false);
  expect(one, 403, "SnapshotCreatedDisk");
  EXPECT_TRUE(one->message.starts_with("1 disk was made")) << one->message;
  const auto four = snapshot_must_not_have_disks(snapshot(), ids, false);
  expect(four, 403, "SnapshotCreatedDisk");
  EXPECT_TRUE(four->message.starts_with("4 disks were made")) << four->message;
  EXPECT_NE(four->message.find(": d-a, d-b, d-c, …. "), std::string::npos) << four->message;
}

TEST(SnapshotRules, GroupsOfOneToSixteenDisksInUseAtOneInstance) {
  expect(group_must_have_a_fitting_number(0), 403, "InvalidInstance.NoDisk");
  EXPECT_FALSE(group_must_have_a_fitting_number(1));
  EXPECT_FALSE(group_must_have_a_fitting_number(16));
  expect(group_must_have_a_fitting_number(17), 403, "NumberExceed.TooManyDisks");

  DiskRecord first = disk();
  DiskRecord last = disk();
  first.instance_id = last.instance_id = "i-1";
  const std::vector<const DiskRecord*> both = {&first, &last};
  EXPECT_FALSE(group_disks_must_be_in_use_at(both, "i-1"));
  last.instance_id = "i-2";
  expect(group_disks_must_be_in_use_at(both, "i-1"), 403, "IncorrectDiskStatus");
  last.instance_id = "i-1";
  last.status = DiskStatus::kDetaching;
  expect(group_disks_must_be_in_use_at(both, "i-1"), 403, "IncorrectDiskStatus");
}

TEST(SnapshotRules, ADiskGoesBackToItsSourceOnlyWhileThatIsThere) {
  DiskRecord made = disk();
  EXPECT_FALSE(source_snapshot_must_remain(made, nullptr));
  made.source_snapshot = "s-1";
  SnapshotRecord source = snapshot();
  EXPECT_FALSE(source_snapshot_must_remain(made, &source));
  source.hidden = true;
  expect(source_snapshot_must_remain(made, &source), 403, "InvalidSourceSnapshot");
  expect(source_snapshot_must_remain(made, nullptr), 403, "InvalidSourceSnapshot");
}

TEST(SnapshotRules, GoingBack) {
  EXPECT_FALSE(snapshot_must_be_of_disk(snapshot(), disk()));
  SnapshotRecord foreign = snapshot();
  foreign.disk_id = "d-2";
  expect(snapshot_must_be_of_disk(foreign, disk()), 403, "InvalidParameter.Mismatch");
  InstanceRecord instance;
  instance.status = InstanceStatus::kStopped;
  EXPECT_FALSE(disk_must_be_out_of_use(disk(), &instance));
  EXPECT_FALSE(disk_must_be_out_of_use(disk(), nullptr));
  instance.status = InstanceStatus::kRunning;
  expect(disk_must_be_out_of_use(disk(), &instance), 403, "IncorrectInstanceStatus");
  DiskRecord attaching = disk();
  attaching.status = DiskStatus::kAttaching;
  expect(disk_must_be_out_of_use(attaching, nullptr), 403, "IncorrectDiskStatus");
  const std::vector<SnapshotRecord> busy(1, snapshot(SnapshotStatus::kProgressing));
  expect(disk_must_not_be_captured(pointers(busy)), 403, "DiskCreatingSnapshot");
  const std::vector<SnapshotRecord> calm(1, snapshot());
  EXPECT_FALSE(disk_must_not_be_captured(pointers(calm)));
}

TEST(SnapshotRules, ADiskOfAnInstanceThatNeverRanWasNeverUsed) {
  InstanceRecord instance;
  expect(disk_must_have_been_used(disk(), &instance), 403, "IncorrectDiskStatus.NeverUsed");
  instance.started = WallTime(Duration(1));
  EXPECT_FALSE(disk_must_have_been_used(disk(), &instance));
  EXPECT_FALSE(disk_must_have_been_used(disk(), nullptr));
}

TEST(SnapshotRules, AGroupIsOfEssdDisksOf32TiBTogether) {
  DiskRecord large = disk();
  large.size_gib = 32'767;
  DiskRecord small = disk();
  small.size_gib = 1;
  std::vector<const DiskRecord*> disks = {&large, &small};
  EXPECT_FALSE(group_must_have_a_fitting_size(disks));
  EXPECT_FALSE(group_disks_must_be_essd(disks));
  disks.push_back(&small);
  expect(group_must_have_a_fitting_size(disks), 403, "CapacityExceed.TooManyDisks");
  small.category = "cloud_auto";
  EXPECT_FALSE(group_disks_must_be_essd(disks));
  small.category = "cloud_efficiency";
  expect(group_disks_must_be_essd(disks), 400, "DiskCategory.OperationNotSupported");
}

TEST(SnapshotRules, TheDisksOfAGroupAreInOneZone) {
  DiskRecord near = disk();
  near.zone = "z-a";
  DiskRecord far = disk();
  far.zone = "z-b";
  EXPECT_FALSE(group_disks_must_share_a_zone(std::vector<const DiskRecord*>{&near, &near}));
  expect(group_disks_must_share_a_zone(std::vector<const DiskRecord*>{&near, &far}), 400,
         "InvalidDiskIds.NotInSameZone");
}

TEST(SnapshotRules, ASnapshotMayBeLargerThanAnyDiskOfACategory) {
  const CategoryRow* basic = find_category(Profile::k2021, "cloud", "");
  ASSERT_NE(basic, nullptr);
  EXPECT_FALSE(snapshot_must_fit_category(2'000, *basic));
  expect(snapshot_must_fit_category(2'001, *basic), 403, "InvalidSnapshot.TooLarge");
}

TEST(SnapshotRules, ARollbackWaitsForEveryCaptureOfTheDisk) {
  const SnapshotRecord target = snapshot();
  std::vector<SnapshotRecord> all = {target};
  EXPECT_FALSE(rollback_must_wait_for_captures(target, pointers(all)));
  all.push_back(snapshot(SnapshotStatus::kProgressing));
  expect(rollback_must_wait_for_captures(target, pointers(all)), 403,
         "IncorrectDiskStatus.HasUnfinishedSnapshot");
  expect(rollback_must_wait_for_captures(all.back(), pointers(all)), 403,
         "InvalidSnapshotId.NotReady");
  all.back().hidden = true;
  EXPECT_FALSE(rollback_must_wait_for_captures(target, pointers(all)));
}

TEST(SnapshotRules, AutomaticOnesGoWithADiskThatSaysSo) {
  std::vector<SnapshotRecord> all(4, snapshot());
  all[1].automatic = true;
  all[2].automatic = true;
  all[2].hidden = true;
  DiskRecord one = disk();
  const auto list = pointers(all);
  EXPECT_EQ(snapshots_that_go_with(one, list), std::vector<const SnapshotRecord*>{&all[1]});
  one.delete_auto_snapshot = false;
  EXPECT_TRUE(snapshots_that_go_with(one, list).empty());
}

TEST(SnapshotRules, AnImageIsRoundedUpToADisk) {
  const CategoryRow* row = find_category(Profile::k2021, "cloud_essd", "PL1");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(size_gib_for_image(1, *row), 20U);
  EXPECT_EQ(size_gib_for_image(20_GiB, *row), 20U);
  EXPECT_EQ(size_gib_for_image(20_GiB + 1, *row), 21U);
  EXPECT_FALSE(image_must_fit_a_disk(32'768 * 1_GiB, *row));
  expect(image_must_fit_a_disk(32'768 * 1_GiB + 1, *row), 403, "InvalidDiskSize.TooLarge");
  expect(image_must_fit_a_disk(0, *row), 400, "InvalidParameter");
  // The newer profile has larger disks; 32 TiB stay the most.
  const CategoryRow* newer = find_category(Profile::k2024, "cloud_essd", "PL1");
  ASSERT_NE(newer, nullptr);
  expect(image_must_fit_a_disk(32'768 * 1_GiB + 1, *newer), 403, "InvalidDiskSize.TooLarge");
}

}  // namespace
}  // namespace clouddisk
