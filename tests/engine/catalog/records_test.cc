#include "engine/catalog/records.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/catalog/ids.h"
#include "engine/catalog/name_rules.h"

namespace clouddisk {
namespace {

DiskRecord full_disk() {
  DiskRecord disk;
  disk.id = "d-bp131n0q38u3a4zi0001";
  disk.region = "cn-hangzhou";
  disk.zone = "cn-hangzhou-i";
  disk.disk_name = "数据盘 \"1\"";
  disk.description = "a+b=c&d\n";
  disk.category = "cloud_essd";
  disk.level = "PL2";
  disk.size_gib = 500;
  disk.visible_gib = 461;
  disk.provisioned_iops = 7;
  disk.system = true;
  disk.status = DiskStatus::kReIniting;
  disk.instance_id = "i-local";
  disk.device = "/dev/xvdc";
  disk.delete_with_instance = true;
  disk.delete_auto_snapshot = false;
  disk.enable_auto_snapshot = false;
  disk.prepaid = true;
  disk.resource_group = "rg-1";
  disk.image_id = "m-1";
  disk.created = WallTime(std::chrono::seconds(1'700'000'000));
  disk.attached = WallTime(std::chrono::nanoseconds(1));
  disk.detached = WallTime(std::chrono::nanoseconds(2));
  disk.spec_changed = WallTime(std::chrono::nanoseconds(3));
  disk.tags = {{"env", "test"}, {"empty", ""}};
  disk.storage = "d-bp131n0q38u3a4zi0001.3";
  disk.storages = 3;
  disk.source_snapshot = "s-1";
  disk.base_snapshot = "s-2";
  disk.undo_storage = "d-bp131n0q38u3a4zi0001.2";
  disk.undo_base = "s-3";
  disk.undo_current = 9;
  disk.undo_until = WallTime(std::chrono::nanoseconds(4));
  disk.own_store = true;
  disk.store_latency_us = 20'000;
  disk.store_bytes_per_second = 100_MiB;
  return disk;
}

TEST(Records, EveryMemberSurvivesARoundTrip) {
  const DiskRecord disk = full_disk();
  const auto read = disk_from_json(to_json(disk));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, disk);

  InstanceRecord instance;
  instance.id = "i-bp1";
  instance.region = "r";
  instance.zone = "z";
  instance.instance_name = "web";
  instance.description = "d";
  instance.host_name = "h";
  instance.image_id = "m";
  instance.type = "ecs.g7.large";
  instance.status = InstanceStatus::kStopping;
  instance.deletion_protection = true;
  instance.prepaid = true;
  instance.resource_group = "rg";
  instance.created = WallTime(std::chrono::nanoseconds(5));
  instance.started = WallTime(std::chrono::nanoseconds(6));
  instance.tags = {{"a", "b"}};
  instance.iops_limit = 60'000;
  instance.throughput_limit = 500;
  const auto read_instance = instance_from_json(to_json(instance));
  ASSERT_TRUE(read_instance) << read_instance.error().message;
  EXPECT_EQ(*read_instance, instance);

  const KeyRecord key{"LTAI1", "s", "ci", false, WallTime(std::chrono::nanoseconds(7))};
  const auto read_key = key_from_json(to_json(key));
  ASSERT_TRUE(read_key) << read_key.error().message;
  EXPECT_EQ(*read_key, key);

  const TokenRecord token{"CreateDisk", "t-1", 0xffff'ffff'ffff'ffff, "{}",
                          WallTime(std::chrono::nanoseconds(9))};
  const auto read_token = token_from_json(to_json(token));
  ASSERT_TRUE(read_token) << read_token.error().message;
  EXPECT_EQ(*read_token, token);
}

TEST(Records, ImagesSurviveARoundTripAndHaveASystemDisk) {
  ImageRecord image;
  image.id = "m-bp1";
  image.region = "r";
  image.image_name = "base";
  image.description = "of the web servers";
  image.family = "web";
  image.version = "7";
  image.architecture = "arm64";
  image.platform = "Debian";
  image.boot_mode = "UEFI";
  image.license = "BYOL";
  image.deprecated = true;
  image.resource_group = "rg";
  image.created = WallTime(std::chrono::nanoseconds(5));
  image.disks = {{"/dev/xvda", true, 40, "s-1"}, {"/dev/xvdb", false, 20, ""}};
  image.accounts = {"1", "22"};
  image.tags = {{"a", "b"}};
  image.source_image = "m-0";
  image.source_region = "r0";
  const auto read = image_from_json(to_json(image));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, image);
  EXPECT_EQ(read->system_disk().snapshot_id, "s-1");

  auto older = nlohmann::json::parse(to_json(image));
  older.erase("source_image");
  older.erase("source_region");
  const auto of_older = image_from_json(older.dump());
  ASSERT_TRUE(of_older) << of_older.error().message;
  EXPECT_EQ(of_older->source_image, "");

  ImageRecord without = image;
  without.disks.erase(without.disks.begin());
  EXPECT_FALSE(image_from_json(to_json(without)));
  without.disks.clear();
  EXPECT_FALSE(image_from_json(to_json(without)));
  EXPECT_FALSE(image_from_json("{}"));
}

TEST(Records, SnapshotsChainsAndGroupsSurviveARoundTrip) {
  SnapshotRecord snapshot;
  snapshot.id = "s-bp1";
  snapshot.region = "r";
  snapshot.disk_id = "d-bp1";
  snapshot.chain_id = "sl-bp1";
  snapshot.seq = 7;
  snapshot.parent = 5;
  snapshot.storage = "d-bp1.2";
  snapshot.storage_base = "s-bp0";
  snapshot.epoch = 11;
  snapshot.snapshot_name = "before";
  snapshot.description = "the upgrade";
  snapshot.size_bytes = 40_GiB;
  snapshot.system = true;
  snapshot.status = SnapshotStatus::kFailed;
  snapshot.failure = "no room";
  snapshot.hidden = true;
  snapshot.automatic = true;
  snapshot.retention_days = 30;
  snapshot.changed_bytes = 4096;
  snapshot.stored_bytes = 99;
  snapshot.source_snapshot = "s-hz1";
  snapshot.source_region = "r0";
  snapshot.source_chain = "sl-hz1";
  snapshot.group_id = "ssg-1";
  snapshot.resource_group = "rg";
  snapshot.created = WallTime(std::chrono::nanoseconds(5));
  snapshot.accomplished = WallTime(std::chrono::nanoseconds(6));
  snapshot.tags = {{"a", "b"}};
  const auto read = snapshot_from_json(to_json(snapshot));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, snapshot);

  ChainRecord chain;
  chain.id = "sl-bp1";
  chain.region = "r";
  chain.disk_id = "d-bp1";
  chain.next_seq = 8;
  chain.current = 7;
  chain.reference_seq = 6;
  chain.reference_storage = "d-bp1.1";
  chain.reference_epoch = 3;
  chain.created = WallTime(std::chrono::nanoseconds(1));
  const auto read_chain = chain_from_json(to_json(chain));
  ASSERT_TRUE(read_chain) << read_chain.error().message;
  EXPECT_EQ(*read_chain, chain);

  GroupRecord group;
  group.id = "ssg-1";
  group.region = "r";
  group.group_name = "all";
  group.description = "d";
  group.instance_id = "i-local";
  group.resource_group = "rg";
  group.created = WallTime(std::chrono::nanoseconds(2));
  group.tags = {{"c", "d"}};
  const auto read_group = group_from_json(to_json(group));
  ASSERT_TRUE(read_group) << read_group.error().message;
  EXPECT_EQ(*read_group, group);
  EXPECT_EQ(chain_id_of("d-bp1"), "sl-bp1");
}

TEST(Records, ADiskOfAnOlderProgramHasItsOwnStorage) {
  std::string json = to_json(full_disk());
  for (const char* member : {"storage", "storages", "source_snapshot", "base_snapshot",
                             "undo_storage", "undo_base", "undo_current", "undo_until"}) {
    const std::string quoted = std::string("\"") + member + "\":";
    const std::size_t at = json.find(quoted);
    ASSERT_NE(at, std::string::npos) << member;
    std::size_t end = json.find_first_of(",}", at);
    if (json[end] == ',') ++end;
    json.erase(at, end - at);
  }
  if (json[json.size() - 2] == ',') json.erase(json.size() - 2, 1);
  const auto read = disk_from_json(json);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->storage, read->id);
  EXPECT_TRUE(read->base_snapshot.empty());
}

TEST(Records, MissingAndMalformedMembersAreNamed) {
  const std::string good = to_json(full_disk());
  const auto expect_problem = [](const std::string& json, const char* member) {
    const auto read = disk_from_json(json);
    ASSERT_FALSE(read) << json;
    EXPECT_EQ(read.error().code, Errc::kCorrupt);
    EXPECT_NE(read.error().message.find(member), std::string::npos) << read.error().message;
  };
  expect_problem("", "object");
  expect_problem("[]", "object");
  expect_problem("{}", "id");
  std::string wrong = good;
  wrong.replace(wrong.find("\"size_gib\":500"), 14, "\"size_gib\":\"x\"");
  expect_problem(wrong, "size_gib");
  wrong = good;
  wrong.replace(wrong.find("ReIniting"), 9, "Vanishing");
  expect_problem(wrong, "status");
  wrong = good;
  wrong.replace(wrong.find("[\"env\""), 6, "[7");
  expect_problem(wrong, "tags");
}

// Every member of a snapshot, a chain and a group is needed: no program wrote them without, but for
// those of copies.
TEST(Records, SnapshotsChainsAndGroupsNameWhatIsMissingOrMalformed) {
  const auto expect_all_needed = [](const std::string& json, auto read) {
    const auto whole = nlohmann::json::parse(json);
    for (const auto& [member, value] : whole.items()) {
      for (const bool gone : {true, false}) {
        if (gone && (member.starts_with("source_") || member.starts_with("cop"))) continue;
        auto bad = whole;
        if (gone) {
          bad.erase(member);
        } else {
          bad[member] = nlohmann::json::object();
        }
        const auto result = read(bad.dump());
        ASSERT_FALSE(result) << member;
        EXPECT_EQ(result.error().code, Errc::kCorrupt) << member;
        EXPECT_NE(result.error().message.find("member " + member + " "), std::string::npos)
            << result.error().message;
      }
    }
  };
  expect_all_needed(to_json(SnapshotRecord{}), snapshot_from_json);
  expect_all_needed(to_json(ChainRecord{}), chain_from_json);
  expect_all_needed(to_json(GroupRecord{}), group_from_json);
}

TEST(Records, ANewerMemberOfADiskIsCheckedWhereItIs) {
  auto json = nlohmann::json::parse(to_json(full_disk()));
  for (const char* member : {"storage", "storages", "source_snapshot", "base_snapshot",
                             "undo_storage", "undo_base", "undo_current", "undo_until"}) {
    auto bad = json;
    bad[member] = nlohmann::json::object();
    const auto read = disk_from_json(bad.dump());
    ASSERT_FALSE(read) << member;
    EXPECT_NE(read.error().message.find(member), std::string::npos) << read.error().message;
  }
}

TEST(Records, StatusesOfSnapshotsAreSpelledAsTheApiDoes) {
  const std::pair<SnapshotStatus, const char*> rows[] = {
      {SnapshotStatus::kProgressing, "progressing"},
      {SnapshotStatus::kAccomplished, "accomplished"},
      {SnapshotStatus::kFailed, "failed"},
      {SnapshotStatus::kDeleting, "deleting"}};
  for (const auto& [status, text] : rows) {
    EXPECT_EQ(name(status), text);
    const auto parsed = parse_snapshot_status(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, status);
  }
  EXPECT_FALSE(parse_snapshot_status("Progressing"));
}

TEST(RecordFrame, RoundTripAndTheKeyIsPartOfTheChecksum) {
  const auto frame = encode_record("disk/d-1", "{\"a\":1}");
  const auto read = decode_record("disk/d-1", frame);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, "{\"a\":1}");
  const auto moved = decode_record("disk/d-2", frame);
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().code, Errc::kCorrupt);
}

TEST(RecordFrame, EveryFlippedBitAndEveryCutIsNoticed) {
  const auto good = encode_record("disk/d-1", "{\"a\":1}");
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      auto bad = good;
      bad[at] ^= static_cast<std::byte>(1U << bit);
      const auto read = decode_record("disk/d-1", bad);
      ASSERT_FALSE(read) << at;
      EXPECT_EQ(read.error().code, Errc::kCorrupt) << at;
    }
    const auto cut = decode_record("disk/d-1", std::span(good).first(at));
    ASSERT_FALSE(cut) << at;
    EXPECT_EQ(cut.error().code, Errc::kCorrupt) << at;
  }
}

TEST(RecordFrame, ANewerFormatIsRefusedAndNotTakenForDamage) {
  auto frame = encode_record("disk/d-1", "{}");
  store_le(frame.data() + 4, kRecordVersion + 1);
  const auto covered = std::span<const std::byte>(frame).first(frame.size() - 8);
  store_le(frame.data() + frame.size() - 8, checksum64(covered, checksum64(as_bytes("disk/d-1"))));
  const auto read = decode_record("disk/d-1", frame);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::kUnsupported);
  EXPECT_NE(read.error().message.find("newer"), std::string::npos);
}

TEST(Ids, LookAsTheCloudsLook) {
  Random random(7);
  const std::string id = make_id("d", "cn-hangzhou", random);
  EXPECT_EQ(id.substr(0, 4), "d-bp");
  EXPECT_EQ(id.size(), 2 + kIdRunLength);
  for (const char c : id.substr(2)) {
    EXPECT_TRUE((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) << id;
  }
  EXPECT_NE(make_id("d", "cn-hangzhou", random), id);
  EXPECT_EQ(make_id("ssg", "cn-local", random).substr(0, 6), "ssg-lo");
  EXPECT_EQ(region_letters("x"), "xx");
}

TEST(NameRules, NamesOfDisks) {
  struct Row {
    const char* name;
    std::string text;
    bool fine;
  };
  std::string long_chinese;
  for (int i = 0; i < 128; ++i) long_chinese += "数";
  const Row rows[] = {
      {"plain", "data", true},
      {"with a space", "data disk-1", true},
      {"letters of other scripts", "数据盘", true},
      {"128 characters of three bytes", long_chinese, true},
      {"129 characters", long_chinese + "x", false},
      {"one character", "d", false},
      {"a digit first", "1data", false},
      {"a dash first", "-data", false},
      {"a URL", "http://x", false},
      {"a safe URL", "https://x", false},
      {"a control character", "da\nta", false},
      {"not UTF-8", "da\xffta", false},
      {"cut UTF-8", "data\xe6\x95", false},
      {"overlong UTF-8", "da\xc0\xaf", false},
      {"a surrogate", "da\xed\xa0\x80", false},
  };
  for (const Row& row : rows) EXPECT_EQ(name_is_well_formed(row.text), row.fine) << row.name;
  EXPECT_FALSE(description_is_well_formed("x"));
  EXPECT_FALSE(description_is_well_formed(std::string(257, 'x')));
  EXPECT_TRUE(description_is_well_formed(std::string(256, 'x')));
}

}  // namespace
}  // namespace clouddisk
