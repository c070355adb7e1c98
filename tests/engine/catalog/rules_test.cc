// Every rule kept once and broken once, with the code and status that the cloud answers.
#include <gtest/gtest.h>

#include "engine/catalog/disk_rules.h"
#include "engine/catalog/instance_rules.h"
#include "engine/catalog/name_rules.h"
#include "engine/catalog/token_rules.h"

namespace clouddisk {
namespace {

constexpr auto k21 = Profile::k2021;
constexpr auto k24 = Profile::k2024;

struct Row {
  const char* name;
  Verdict verdict;
  int http_status;   // 0: kept
  const char* code;  // of the refusal
};

void check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    if (row.http_status == 0) {
      EXPECT_FALSE(row.verdict) << row.name << ": " << (row.verdict ? row.verdict->code : "");
      continue;
    }
    ASSERT_TRUE(row.verdict) << row.name;
    EXPECT_EQ(row.verdict->http_status, row.http_status) << row.name;
    EXPECT_EQ(row.verdict->code, row.code) << row.name;
    EXPECT_FALSE(row.verdict->message.empty()) << row.name;
  }
}

const CategoryRow& row_of(const char* category, const char* level, Profile profile = k21) {
  const CategoryRow* row = find_category(profile, category, level);
  CHECK(row != nullptr);
  return *row;
}

DiskRecord disk_of(DiskStatus status, const char* level = "PL1", std::uint64_t gib = 40) {
  DiskRecord disk;
  disk.id = "d-1";
  disk.zone = "z";
  disk.category = "cloud_essd";
  disk.level = level;
  disk.size_gib = gib;
  disk.status = status;
  if (status == DiskStatus::kInUse || status == DiskStatus::kDetaching) {
    disk.instance_id = "i-1";
    disk.device = "/dev/xvdb";
  }
  return disk;
}

InstanceRecord instance_of(InstanceStatus status) {
  InstanceRecord instance;
  instance.id = "i-1";
  instance.zone = "z";
  instance.status = status;
  return instance;
}

TEST(DiskRules, CategoriesAndLevels) {
  check({
      {"essd", category_must_be_creatable(k21, "cloud_essd"), 0, ""},
      {"basic", category_must_be_creatable(k21, "cloud"), 0, ""},
      {"unknown", category_must_be_creatable(k21, "cloud_turbo"), 400,
       "InvalidDiskCategory.ValueNotSupported"},
      {"local", category_must_be_creatable(k21, "local_ssd_pro"), 403,
       "InvalidDiskCategory.NotSupported"},
      {"withdrawn", category_must_be_creatable(k24, "cloud"), 403,
       "InvalidDiskCategory.NotSupported"},
      {"PL3", level_must_fit_category("cloud_essd", "PL3"), 0, ""},
      {"no level", level_must_fit_category("cloud_ssd", ""), 0, ""},
      {"PL4", level_must_fit_category("cloud_essd", "PL4"), 400,
       "InvalidPerformanceLevel.Malformed"},
      {"level of an SSD", level_must_fit_category("cloud_ssd", "PL1"), 400,
       "InvalidPerformanceLevel.ValueNotSupported"},
  });
}

TEST(DiskRules, Sizes) {
  check({
      {"PL1 least", data_disk_size_must_fit(row_of("cloud_essd", "PL1"), 20), 0, ""},
      {"PL1 most", data_disk_size_must_fit(row_of("cloud_essd", "PL1"), 32'768), 0, ""},
      {"PL1 below", data_disk_size_must_fit(row_of("cloud_essd", "PL1"), 19), 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"PL1 above", data_disk_size_must_fit(row_of("cloud_essd", "PL1"), 32'769), 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"PL2 below", data_disk_size_must_fit(row_of("cloud_essd", "PL2"), 460), 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"PL0 below", data_disk_size_must_fit(row_of("cloud_essd", "PL0"), 39), 403,
       "InvalidDiskSize.TooSmall"},
      {"PL0 above", data_disk_size_must_fit(row_of("cloud_essd", "PL0"), 40'000), 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"SSD below", data_disk_size_must_fit(row_of("cloud_ssd", ""), 19), 400,
       "InvalidDiskSize.NotSupported"},
      {"ultra above", data_disk_size_must_fit(row_of("cloud_efficiency", ""), 32'769), 400,
       "InvalidDiskSize.NotSupported"},
      {"basic above", data_disk_size_must_fit(row_of("cloud", ""), 2'001), 400,
       "InvalidDiskSize.NotSupported"},
      {"auto below", data_disk_size_must_fit(row_of("cloud_auto", ""), 39), 403,
       "InvalidDataDiskSize.ValueNotSupported"},
      {"system", system_disk_size_must_fit(row_of("cloud_essd", "PL1"), 500), 0, ""},
      {"system above", system_disk_size_must_fit(row_of("cloud_essd", "PL1"), 501), 400,
       "InvalidSystemDiskSize.ValueNotSupported"},
      {"system PL3", system_disk_size_must_fit(row_of("cloud_essd", "PL3"), 1'300), 400,
       "InvalidSystemDiskSize.ValueNotSupported"},
      {"provisioned", provisioned_iops_must_fit(row_of("cloud_auto", "", k24), 4, 1'000), 0, ""},
      {"provisioned too many", provisioned_iops_must_fit(row_of("cloud_auto", "", k24), 4, 1'001),
       400, "InvalidProvisionedIops.LimitExceed"},
      {"provisioned PL1", provisioned_iops_must_fit(row_of("cloud_essd", "PL1"), 40, 1), 400,
       "ProvisionedIopsForDiskCategoryUnsupported"},
  });
}

TEST(DiskRules, AttachDetachDelete) {
  const DiskRecord free = disk_of(DiskStatus::kAvailable);
  const DiskRecord used = disk_of(DiskStatus::kInUse);
  const DiskRecord leaving = disk_of(DiskStatus::kDetaching);
  DiskRecord elsewhere = free;
  elsewhere.zone = "other";
  DiskRecord system = used;
  system.system = true;
  check({
      {"attach", disk_must_be_available_to_attach(free), 0, ""},
      {"attach used", disk_must_be_available_to_attach(used), 403, "IncorrectDiskStatus"},
      {"delete", disk_must_be_available_to_delete(free), 0, ""},
      {"delete used", disk_must_be_available_to_delete(used), 403, "IncorrectDiskStatus"},
      {"running", instance_must_take_disks(instance_of(InstanceStatus::kRunning), 400), 0, ""},
      {"stopped", instance_must_take_disks(instance_of(InstanceStatus::kStopped), 400), 0, ""},
      {"starting", instance_must_take_disks(instance_of(InstanceStatus::kStarting), 400), 400,
       "IncorrectInstanceStatus"},
      {"same zone",
       disk_and_instance_must_share_a_zone(free, instance_of(InstanceStatus::kRunning)), 0, ""},
      {"other zone",
       disk_and_instance_must_share_a_zone(elsewhere, instance_of(InstanceStatus::kRunning)), 403,
       "ResourcesNotInSameZone"},
      {"detach", disk_must_be_attached_to(used, "i-1"), 0, ""},
      {"detach free", disk_must_be_attached_to(free, "i-1"), 403, "IncorrectDiskStatus"},
      {"detach another's", disk_must_be_attached_to(used, "i-2"), 403, "DependencyViolation"},
      {"detach twice", disk_must_be_attached_to(leaving, "i-1"), 403, "IncorrectDiskStatus"},
      {"detach data", disk_must_be_a_data_disk(used), 0, ""},
      {"detach system", disk_must_be_a_data_disk(system), 403, "DiskTypeViolation"},
  });
}

TEST(DiskRules, RoomAndDevices) {
  std::vector<DiskRecord> disks(kDataDisksMax, disk_of(DiskStatus::kInUse));
  DiskRecord system = disk_of(DiskStatus::kInUse);
  system.system = true;
  system.device = "/dev/xvda";
  std::vector<const DiskRecord*> attached = {&system};
  for (std::size_t i = 0; i < disks.size(); ++i) {
    EXPECT_FALSE(instance_must_have_room(attached)) << i;
    disks[i].device = first_free_device(attached);
    EXPECT_EQ(disks[i].device, std::string("/dev/xvd") + static_cast<char>('b' + i));
    attached.push_back(&disks[i]);
  }
  check({
      {"seventeenth", instance_must_have_room(attached), 403, "InstanceDiskLimitExceeded"},
      {"free", device_must_be_free("/dev/xvdz", attached), 0, ""},
      {"free, short", device_must_be_free("/dev/vdz", attached), 0, ""},
      {"taken", device_must_be_free("/dev/xvdc", attached), 403, "InvalidDevice.InUse"},
      {"the system disk's", device_must_be_free("/dev/xvda", attached), 400,
       "InvalidDevice.Malformed"},
      {"no device", device_must_be_free("/dev/sda", attached), 400, "InvalidDevice.Malformed"},
      {"two letters", device_must_be_free("/dev/xvdaa", attached), 400, "InvalidDevice.Malformed"},
  });
}

TEST(DiskRules, Resize) {
  const DiskRecord disk = disk_of(DiskStatus::kInUse);
  DiskRecord system = disk;
  system.system = true;
  const InstanceRecord running = instance_of(InstanceStatus::kRunning);
  const InstanceRecord stopped = instance_of(InstanceStatus::kStopped);
  const CategoryRow& row = row_of("cloud_essd", "PL1");
  check({
      {"larger", new_size_must_be_larger(disk, row, 41), 0, ""},
      {"smaller", new_size_must_be_larger(disk, row, 39), 403, "InvalidDiskSize.TooSmall"},
      {"equal", new_size_must_be_larger(disk, row, 40), 403, "InvalidDiskSize"},
      {"too large", new_size_must_be_larger(disk, row, 32'769), 403, "InvalidDiskSize.TooLarge"},
      {"system too large", new_size_must_be_larger(system, row, 501), 403,
       "InvalidDiskSize.TooLarge"},
      {"at rest", disk_must_be_at_rest(disk), 0, ""},
      {"creating", disk_must_be_at_rest(disk_of(DiskStatus::kCreating)), 403,
       "IncorrectDiskStatus"},
      {"online", online_resize_needs_a_running_instance(disk, &running), 0, ""},
      {"online, stopped", online_resize_needs_a_running_instance(disk, &stopped), 403,
       "InvalidInstanceStatus.NotRunning"},
      {"online, free", online_resize_needs_a_running_instance(disk, nullptr), 403,
       "IncorrectDiskStatus"},
  });
}

TEST(DiskRules, ChangeOfSpec) {
  const DiskRecord pl1 = disk_of(DiskStatus::kInUse, "PL1", 1'000);
  const DiskRecord small = disk_of(DiskStatus::kInUse, "PL1", 40);
  DiskRecord prepaid = disk_of(DiskStatus::kInUse, "PL2", 1'000);
  prepaid.prepaid = true;
  DiskRecord restarted = pl1;
  restarted.visible_gib = restarted.size_gib;
  DiskRecord grown = restarted;
  grown.visible_gib = 900;
  DiskRecord ultra = pl1;
  ultra.category = "cloud_efficiency";
  ultra.level = "";
  DiskRecord basic = ultra;
  basic.category = "cloud";
  DiskRecord changed = pl1;
  changed.spec_changed = WallTime(std::chrono::hours(1'000));
  const Duration week = std::chrono::hours(168);
  const WallTime soon = changed.spec_changed + std::chrono::hours(167);
  check({
      {"other level", spec_must_change(pl1, row_of("cloud_essd", "PL2"), 0), 0, ""},
      {"same", spec_must_change(pl1, row_of("cloud_essd", "PL1"), 0), 403,
       "NoChangeInDiskCategoryAndPerformanceLevel"},
      {"large enough", size_must_allow_spec(pl1, row_of("cloud_essd", "PL2")), 0, ""},
      {"too small", size_must_allow_spec(small, row_of("cloud_essd", "PL2")), 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"too small for AutoPL",
       size_must_allow_spec(disk_of(DiskStatus::kInUse, "PL1", 20), row_of("cloud_auto", "")), 403,
       "InvalidDiskCategory.NotSupported"},
      {"up", spec_must_be_reachable(pl1, row_of("cloud_essd", "PL2")), 0, ""},
      {"down",
       spec_must_be_reachable(disk_of(DiskStatus::kInUse, "PL2", 1'000),
                              row_of("cloud_essd", "PL1")),
       0, ""},
      {"down to PL0", spec_must_be_reachable(pl1, row_of("cloud_essd", "PL0")), 403,
       "InvalidPerformanceLevel.TooLow"},
      {"prepaid down", spec_must_be_reachable(prepaid, row_of("cloud_essd", "PL1")), 403,
       "Downgrade.NotSupported"},
      {"ultra to ESSD", spec_must_be_reachable(ultra, row_of("cloud_essd", "PL1")), 0, ""},
      {"ESSD to ultra", spec_must_be_reachable(pl1, row_of("cloud_efficiency", "")), 403,
       "InvalidDiskCategory.NotSupported"},
      {"basic to ESSD", spec_must_be_reachable(basic, row_of("cloud_essd", "PL1")), 403,
       "InvalidDiskCategory.ValueNotSupported"},
      {"grown and restarted", resize_must_have_taken_effect(restarted), 0, ""},
      {"grown and not restarted", resize_must_have_taken_effect(grown), 403,
       "OperationDenied.DiskExpansionUnfinished"},
      {"cooled", spec_must_have_cooled(changed, soon + std::chrono::hours(1), week), 0, ""},
      {"cooling off", spec_must_have_cooled(changed, soon, Duration::zero()), 0, ""},
      {"never changed", spec_must_have_cooled(pl1, soon, week), 0, ""},
      {"too soon", spec_must_have_cooled(changed, soon, week), 403, "DiskInCoolingPeriod"},
  });
}

TEST(InstanceRules, StatesRegionsAndAmounts) {
  InstanceRecord protected_one = instance_of(InstanceStatus::kStopped);
  protected_one.deletion_protection = true;
  InstanceRecord local = instance_of(InstanceStatus::kStopped);
  local.id = "i-local";
  const InstanceRecord running = instance_of(InstanceStatus::kRunning);
  const InstanceRecord stopped = instance_of(InstanceStatus::kStopped);
  const InstanceRecord stopping = instance_of(InstanceStatus::kStopping);
  check({
      {"start", instance_must_be_stopped_to_start(stopped), 0, ""},
      {"start running", instance_must_be_stopped_to_start(running), 403, "IncorrectInstanceStatus"},
      {"stop", instance_must_be_running_to_stop(running), 0, ""},
      {"stop stopped", instance_must_be_running_to_stop(stopped), 403, "IncorrectInstanceStatus"},
      {"reboot", instance_must_be_running_to_reboot(running), 0, ""},
      {"reboot stopped", instance_must_be_running_to_reboot(stopped), 403,
       "IncorrectInstanceStatus"},
      {"delete", instance_must_be_stopped_to_delete(stopped, false), 0, ""},
      {"delete running", instance_must_be_stopped_to_delete(running, false), 403,
       "IncorrectInstanceStatus"},
      {"delete running by force", instance_must_be_stopped_to_delete(running, true), 0, ""},
      {"delete stopping by force", instance_must_be_stopped_to_delete(stopping, true), 403,
       "IncorrectInstanceStatus"},
      {"not protected", instance_must_not_be_protected(stopped), 0, ""},
      {"protected", instance_must_not_be_protected(protected_one), 403,
       "InvalidOperation.DeletionProtection"},
      {"another", instance_must_not_be_the_host(stopped), 0, ""},
      {"the host", instance_must_not_be_the_host(local), 403, "OperationDenied"},
      {"postpaid", charge_type_must_be_known("PostPaid"), 0, ""},
      {"unknown charge", charge_type_must_be_known("Barter"), 404,
       "InvalidInstanceChargeType.NotFound"},
      {"100 named", instance_number_must_fit(100), 0, ""},
      {"none named", instance_number_must_fit(0), 400, "MissingParameter"},
      {"101 named", instance_number_must_fit(101), 400, "InvalidParameter"},
      {"amount", amount_must_be_possible(100, 1), 0, ""},
      {"none", amount_must_be_possible(0, 0), 400, "InvalidParameter.Amount"},
      {"too many", amount_must_be_possible(101, 1), 400, "InvalidParameter.Amount"},
      {"least above most", amount_must_be_possible(2, 3), 400, "InvalidParameter.Amount"},
  });
}

TEST(NameRules, TagsAndTokens) {
  const std::vector<Tag> twenty_one(21, Tag{"k", "v"});
  check({
      {"tags", tags_must_be_valid({{"a", ""}, {"b", "数"}}), 0, ""},
      {"twice", tags_must_be_valid({{"a", "1"}, {"a", "2"}}), 400, "Duplicate.TagKey"},
      {"too many", tags_must_be_valid(twenty_one), 403, "QuotaExceed.Tags"},
      {"no key", tags_must_be_valid({{"", "1"}}), 400, "InvalidTagKey.Malformed"},
      {"reserved", tags_must_be_valid({{"acs:x", "1"}}), 400, "InvalidTagKey.Malformed"},
      {"long value", tags_must_be_valid({{"a", std::string(129, 'x')}}), 400,
       "InvalidTagValue.Malformed"},
      {"token", client_token_must_be_valid("0c593ea1-3bea"), 0, ""},
      {"long token", client_token_must_be_valid(std::string(65, 'x')), 403,
       "InvalidClientToken.Malformed"},
      {"token not ASCII", client_token_must_be_valid("数"), 403, "InvalidClientToken.Malformed"},
      {"name", name_must_be_well_formed("1x", "InvalidDiskName.Malformed"), 400,
       "InvalidDiskName.Malformed"},
      {"description", description_must_be_well_formed("x", "InvalidDescription.Malformed", 404),
       404, "InvalidDescription.Malformed"},
  });
}

TEST(TokenRules, TokensAreGoodForADayAndTheOldestGoesAtTheLimit) {
  const WallTime now{std::chrono::hours(500'000)};
  Catalog::ById<TokenRecord> tokens;
  const auto add = [&tokens](const std::string& token, WallTime created) {
    tokens[token] = {"CreateDisk", token, 1, "{}", created};
  };
  EXPECT_TRUE(tokens_to_forget(tokens, now).empty());
  add("new", now);
  add("almost", now - std::chrono::hours(24) + Duration(1));
  EXPECT_TRUE(token_is_good(tokens["almost"], now));
  EXPECT_TRUE(tokens_to_forget(tokens, now).empty());
  for (int i = 0; tokens.size() < kTokensMax; ++i) add(std::to_string(i), now - Duration(i));
  ASSERT_EQ(tokens_to_forget(tokens, now).size(), 1U);
  EXPECT_EQ(tokens_to_forget(tokens, now)[0]->token, "almost");
  add("old", now - std::chrono::hours(24));
  add("older", now - std::chrono::hours(48));
  EXPECT_FALSE(token_is_good(tokens["old"], now));
  const auto forgotten = tokens_to_forget(tokens, now);
  ASSERT_EQ(forgotten.size(), 3U) << "the expired ones, and one to make room";
  EXPECT_EQ(forgotten[0]->token, "old");
  EXPECT_EQ(forgotten[1]->token, "older");
  EXPECT_EQ(forgotten[2]->token, "almost");
  for (int i = 0; i < 64; ++i) add("at once " + std::to_string(i), now);
  EXPECT_EQ(tokens_to_forget(tokens, now).size(), 3U + 64U) << "as many as are too many";
}

}  // namespace
}  // namespace clouddisk
