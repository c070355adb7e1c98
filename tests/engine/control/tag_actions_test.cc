// Tags of everything that carries them: rules, overwriting, searching, and that unused ones are
// gone.
#include <gtest/gtest.h>

#include <set>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

constexpr const char* kRegion = "cn-local";

class TagActions : public ControlTest {
 protected:
  static Params of(const std::string& type, const std::string& id, Params more = {}) {
    more["RegionId"] = kRegion;
    more["ResourceType"] = type;
    more["ResourceId.1"] = id;
    return more;
  }
  // "key=value" of each.
  static std::set<std::string> pairs(const Json& list) {
    std::set<std::string> found;
    for (const Json& one : list) {
      found.insert(one["TagKey"].get<std::string>() + "=" + one["TagValue"].get<std::string>());
    }
    return found;
  }
  static std::set<std::string> tags_of(Daemon& daemon, const std::string& type,
                                       const std::string& id) {
    return pairs(daemon.must("ListTagResources", of(type, id))["TagResources"]["TagResource"]);
  }
  static std::set<std::string> in_use(Daemon& daemon) {
    return pairs(daemon.must("DescribeTags", {{"PageSize", "100"}})["Tags"]["Tag"]);
  }
  static Params many_tags(int count, const std::string& prefix = "k") {
    Params params;
    for (int i = 1; i <= count; ++i) {
      const std::string name = "Tag." + std::to_string(i);
      params[name + ".Key"] = prefix + std::to_string(i);
      params[name + ".Value"] = "v";
    }
    return params;
  }
};

TEST_F(TagActions, AreSetOverwrittenAndTakenOffOnEveryKindOfResource) {
  Daemon daemon(root_.path());
  const std::string disk = daemon.create_disk();
  daemon.attach(disk);
  const std::string snapshot = daemon.must("CreateSnapshot", {{"DiskId", disk}})["SnapshotId"];
  const std::string group =
      daemon.must("CreateSnapshotGroup", {{"DiskId.1", disk}})["SnapshotGroupId"];
  const std::string policy =
      daemon.must("CreateAutoSnapshotPolicy", {{"timePoints", "[\"6\"]"},
                                               {"repeatWeekdays", "[\"1\"]"},
                                               {"retentionDays", "7"}})["AutoSnapshotPolicyId"];
  const std::pair<const char*, std::string> resources[] = {{"disk", disk},
                                                           {"snapshot", snapshot},
                                                           {"instance", "i-local"},
                                                           {"snapshotgroup", group},
                                                           {"snapshotpolicy", policy}};
  for (const auto& [type, id] : resources) {
    daemon.must("TagResources", of(type, id,
                                   {{"Tag.1.Key", "env"},
                                    {"Tag.1.Value", "test"},
                                    {"Tag.2.Key", "空"},
                                    {"Tag.2.Value", ""}}));
    EXPECT_EQ(tags_of(daemon, type, id), (std::set<std::string>{"env=test", "空="})) << type;
    daemon.must("TagResources", of(type, id, {{"tag.1.key", "env"}, {"tag.1.value", "prod"}}));
    EXPECT_EQ(tags_of(daemon, type, id), (std::set<std::string>{"env=prod", "空="})) << type;
    daemon.must("UntagResources", of(type, id, {{"TagKey.1", "空"}, {"TagKey.2", "never"}}));
    EXPECT_EQ(tags_of(daemon, type, id), (std::set<std::string>{"env=prod"})) << type;
  }
  const Json counts = daemon.must("DescribeTags")["Tags"]["Tag"];
  ASSERT_EQ(counts.size(), 1U);
  for (const char* kind : {"Disk", "Snapshot", "Instance", "SnapshotPolicy", "SnapshotGroup"}) {
    EXPECT_EQ(counts[0]["ResourceTypeCount"][kind], 1) << kind;
  }
  EXPECT_EQ(counts[0]["ResourceTypeCount"]["KeyPair"], 0);
  const Json found =
      daemon.must("DescribeResourceByTags", {{"Tag.1.Key", "env"}, {"Tag.1.Value", "prod"}});
  EXPECT_EQ(found["TotalCount"], 5);
  for (const auto& [type, id] : resources) {
    daemon.must("UntagResources", of(type, id, {{"All", "true"}}));
    EXPECT_TRUE(tags_of(daemon, type, id).empty()) << type;
  }
  EXPECT_TRUE(in_use(daemon).empty()) << "a tag that nothing has is gone";
}

TEST_F(TagActions, SurviveARestartAndGoWithTheirResource) {
  std::string disk;
  {
    Daemon daemon(root_.path());
    disk = daemon.create_disk();
    daemon.must("TagResources", of("disk", disk, {{"Tag.1.Key", "a"}, {"Tag.1.Value", "b"}}));
  }
  Daemon daemon(root_.path());
  EXPECT_EQ(tags_of(daemon, "disk", disk), (std::set<std::string>{"a=b"}));
  EXPECT_EQ(in_use(daemon), (std::set<std::string>{"a=b"}));
  daemon.must("DeleteDisk", {{"DiskId", disk}});
  EXPECT_TRUE(in_use(daemon).empty());
  EXPECT_REFUSED(daemon.ask("ListTagResources", of("disk", disk)), 404,
                 "InvalidResourceId.NotFound");
}

TEST_F(TagActions, EveryRuleHasItsCode) {
  Daemon daemon(root_.path());
  const std::string disk = daemon.create_disk();
  const auto tagging = [&](Params more) { return of("disk", disk, std::move(more)); };
  const Params fine = {{"Tag.1.Key", "a"}, {"Tag.1.Value", "b"}};
  const auto without = [&](const char* name) {
    Params params = tagging(fine);
    params.erase(name);
    return params;
  };
  const auto with = [&](const char* name, const std::string& value) {
    Params params = tagging(fine);
    params[name] = value;
    return params;
  };
  Params many_resources = tagging(fine);
  for (int i = 1; i <= 51; ++i) many_resources["ResourceId." + std::to_string(i)] = disk;
  const std::string long_text(129, 'x');
  struct Case {
    const char* what;
    Params params;
    int status;
    const char* code;
  };
  const Case cases[] = {
      {"no region", without("RegionId"), 404, "MissingParameter.RegionId"},
      {"no type", without("ResourceType"), 404, "MissingParameter.ResourceType"},
      {"no resources", without("ResourceId.1"), 404, "MissingParameter.ResourceIds"},
      {"no tags", tagging({}), 404, "MissingParameter.Tags"},
      {"no such region", with("RegionId", "mars"), 404, "InvalidRegionId.NotFound"},
      {"no such type", with("ResourceType", "rocket"), 404, "InvalidResourceType.NotFound"},
      {"a type that is not here", with("ResourceType", "eni"), 404, "InvalidResourceType.NotFound"},
      {"no such resource", with("ResourceId.2", "d-none"), 404, "InvalidResourceId.NotFound"},
      {"of another type", with("ResourceId.1", "i-local"), 403, "InvalidResourceId.NotSupported"},
      {"51 resources", many_resources, 400, "NumberExceed.ResourceIds"},
      {"21 tags", tagging(many_tags(21)), 400, "NumberExceed.Tags"},
      {"a key twice", with("Tag.2.Key", "a"), 400, "Duplicate.TagKey"},
      {"a value alone", with("Tag.2.Value", "x"), 400, "InvalidTag.Mismatch"},
      {"no key", tagging({{"Tag.1.Key", ""}, {"Tag.1.Value", ""}}), 400, "InvalidTagKey.Malformed"},
      {"aliyun", with("Tag.1.Key", "aliyunx"), 400, "InvalidTagKey.Malformed"},
      {"acs:", with("Tag.1.Key", "acs:x"), 400, "InvalidTagKey.Malformed"},
      {"http", with("Tag.1.Key", "ahttp://x"), 400, "InvalidTagKey.Malformed"},
      {"https", with("Tag.1.Key", "https://x"), 400, "InvalidTagKey.Malformed"},
      {"long key", with("Tag.1.Key", long_text), 400, "InvalidTagKey.Malformed"},
      {"long value", with("Tag.1.Value", long_text), 400, "InvalidTagValue.Malformed"},
      {"http value", with("Tag.1.Value", "http://x"), 400, "InvalidTagValue.Malformed"},
      {"dry run", with("DryRun", "true"), 400, "DryRunOperation"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    EXPECT_REFUSED(daemon.ask("TagResources", one.params), one.status, one.code);
  }
  EXPECT_TRUE(tags_of(daemon, "disk", disk).empty()) << "a refusal changes nothing";
  daemon.must("TagResources", with("Tag.1.Key", std::string(128, 'x')));
  daemon.must("UntagResources", tagging({{"All", "true"}}));

  EXPECT_REFUSED(daemon.ask("UntagResources", tagging({})), 404, "MissingParameter.Tags");
  EXPECT_REFUSED(daemon.ask("UntagResources", tagging({{"All", "maybe"}})), 400,
                 "InvalidParameter");
  Params keys;
  for (int i = 1; i <= 21; ++i) keys["TagKey." + std::to_string(i)] = "k";
  EXPECT_REFUSED(daemon.ask("UntagResources", tagging(keys)), 400, "NumberExceed.Tags");
  EXPECT_REFUSED(daemon.ask("UntagResources", many_resources), 400, "NumberExceed.ResourceIds");
  EXPECT_REFUSED(daemon.ask("ListTagResources", many_resources), 400, "NumberExceed.ResourceIds");
  EXPECT_REFUSED(daemon.ask("ListTagResources", {{"RegionId", kRegion}, {"ResourceType", "disk"}}),
                 404, "MissingParameter.Tags");
  for (const char* action : {"UntagResources", "ListTagResources"}) {
    SCOPED_TRACE(action);
    EXPECT_REFUSED(daemon.ask(action, without("RegionId")), 404, "MissingParameter.RegionId");
    EXPECT_REFUSED(daemon.ask(action, without("ResourceType")), 404,
                   "MissingParameter.ResourceType");
  }
  EXPECT_REFUSED(daemon.ask("AddTags", {{"ResourceType", "disk"}}), 400, "MissingParameter");
  EXPECT_REFUSED(daemon.ask("DescribeResourceByTags"), 404, "MissingParameter.Tags");
}

TEST_F(TagActions, TwentyOnAResourceAndTheWholeRequestOrNothing) {
  Daemon daemon(root_.path());
  const std::string full = daemon.create_disk();
  const std::string empty = daemon.create_disk();
  daemon.must("TagResources", of("disk", full, many_tags(20)));
  daemon.must("TagResources", of("disk", full, many_tags(20)));  // the same keys: no more
  Params both = of("disk", empty, {{"Tag.1.Key", "one-more"}});
  both["ResourceId.2"] = full;
  EXPECT_REFUSED(daemon.ask("TagResources", both), 400, "OperationDenied.QuotaExceed");
  EXPECT_TRUE(tags_of(daemon, "disk", empty).empty());
  EXPECT_EQ(tags_of(daemon, "disk", full).size(), 20U);
  Params created = many_tags(21);
  created["Size"] = "40";
  EXPECT_REFUSED(daemon.ask("CreateDisk", created), 403, "QuotaExceed.Tags");
}

TEST_F(TagActions, SearchesByEveryConditionAndPagesByWholeResources) {
  Daemon daemon(root_.path());
  std::vector<std::string> disks;
  for (int i = 0; i < 5; ++i) {
    Params params = many_tags(19);
    params["Size"] = "40";
    params["Tag.20.Key"] = "n";
    params["Tag.20.Value"] = std::to_string(i);
    disks.push_back(daemon.create_disk(params));
  }
  const auto list = [&](Params params) {
    params["RegionId"] = kRegion;
    params["ResourceType"] = "disk";
    std::multiset<std::string> ids;
    std::string token;
    do {
      params["NextToken"] = token;
      const Json body = daemon.must("ListTagResources", params);
      const Json& page = body["TagResources"]["TagResource"];
      EXPECT_LE(page.size(), 50U);
      for (const Json& one : page) ids.insert(one["ResourceId"].get<std::string>());
      token = body["NextToken"];
    } while (!token.empty());
    return ids;
  };
  const auto all = list({{"Tag.1.Key", "k1"}});
  EXPECT_EQ(all.size(), 100U);
  for (const std::string& disk : disks) EXPECT_EQ(all.count(disk), 20U);
  EXPECT_EQ(list({{"Tag.1.Key", "k1"}, {"Tag.2.Key", "n"}, {"Tag.2.Value", "3"}}).count(disks[3]),
            20U);
  EXPECT_TRUE(list({{"Tag.1.Key", "n"}, {"Tag.1.Value", "7"}}).empty());
  const auto two = list({{"TagFilter.1.TagKey", "n"},
                         {"TagFilter.1.TagValues.1", "1"},
                         {"TagFilter.1.TagValues.2", "2"}});
  EXPECT_EQ(std::set<std::string>(two.begin(), two.end()),
            (std::set<std::string>{disks[1], disks[2]}));
  EXPECT_REFUSED(daemon.ask("ListTagResources", {{"RegionId", kRegion},
                                                 {"ResourceType", "disk"},
                                                 {"Tag.1.Key", "n"},
                                                 {"NextToken", "zz"}}),
                 400, "InvalidParameter");
  // The older generation.
  EXPECT_EQ(daemon.must("DescribeTags", {{"Tag.1.Key", "n"}})["TotalCount"], 5);
  const Json page = daemon.must("DescribeTags", {{"PageSize", "10"}, {"PageNumber", "3"}});
  EXPECT_EQ(page["TotalCount"], 24);
  EXPECT_EQ(page["Tags"]["Tag"].size(), 4U);
  EXPECT_EQ(daemon.must("DescribeResourceByTags",
                        {{"Tag.1.Key", "k2"}, {"ResourceType", "instance"}})["TotalCount"],
            0);
  daemon.must("RemoveTags", {{"ResourceType", "disk"},
                             {"ResourceId", disks[0]},
                             {"Tag.1.Key", "n"},
                             {"Tag.1.Value", "9"}});  // another value: it stays
  EXPECT_EQ(tags_of(daemon, "disk", disks[0]).count("n=0"), 1U);
  daemon.must("RemoveTags",
              {{"ResourceType", "disk"}, {"ResourceId", disks[0]}, {"Tag.1.Key", "n"}});
  EXPECT_EQ(tags_of(daemon, "disk", disks[0]).count("n=0"), 0U);
  daemon.must("AddTags", {{"ResourceType", "disk"},
                          {"ResourceId", disks[0]},
                          {"Tag.1.Key", "n"},
                          {"Tag.1.Value", "new"}});
  EXPECT_EQ(tags_of(daemon, "disk", disks[0]).count("n=new"), 1U);
}

TEST_F(TagActions, TagsOfTheDescribeActions) {
  Daemon daemon(root_.path());
  const std::string a =
      daemon.create_disk({{"Size", "40"}, {"DiskCategory", "cloud_essd"}, {"Tag.1.Key", "a"}});
  daemon.create_disk({{"Size", "40"}, {"Tag.1.Key", "a"}, {"Tag.1.Value", "1"}});
  daemon.attach(a);
  daemon.must("CreateSnapshot", {{"DiskId", a}, {"Tag.1.Key", "s"}, {"Tag.1.Value", "1"}});
  daemon.must("CreateSnapshotGroup", {{"DiskId.1", a}, {"Tag.1.Key", "g"}});
  daemon.must("CreateAutoSnapshotPolicy", {{"timePoints", "[\"6\"]"},
                                           {"repeatWeekdays", "[\"1\"]"},
                                           {"retentionDays", "7"},
                                           {"Tag.1.Key", "p"},
                                           {"Tag.1.Value", "1"}});
  daemon.must("RunInstances", {{"ImageId", "m"}, {"InstanceType", "ecs.x"}, {"Tag.1.Key", "i"}});
  const Json tagged = daemon.must("DescribeResourceByTags", {{"Tag.1.Key", "i"}});
  EXPECT_EQ(tagged["TotalCount"], 2) << "an instance's tags are its disks', too";
  const auto count = [&](const std::string& action, const std::string& wrapper,
                         const std::string& item, Params params) {
    return daemon.must(action, std::move(params))[wrapper][item].size();
  };
  EXPECT_EQ(count("DescribeDisks", "Disks", "Disk", {{"Tag.1.Key", "a"}}), 2U);
  EXPECT_EQ(count("DescribeDisks", "Disks", "Disk", {{"Tag.1.Key", "a"}, {"Tag.1.Value", "1"}}),
            1U);
  EXPECT_EQ(count("DescribeDisks", "Disks", "Disk", {{"Tag.1.Key", "x"}}), 0U);
  EXPECT_EQ(count("DescribeSnapshots", "Snapshots", "Snapshot", {{"Tag.1.Key", "s"}}), 1U);
  EXPECT_EQ(
      count("DescribeSnapshotGroups", "SnapshotGroups", "SnapshotGroup", {{"Tag.1.Key", "g"}}), 1U);
  EXPECT_EQ(count("DescribeInstances", "Instances", "Instance", {{"Tag.1.Key", "i"}}), 1U);
  const Json policies = daemon.must("DescribeAutoSnapshotPolicyEx", {{"Tag.1.Key", "p"}});
  ASSERT_EQ(policies["TotalCount"], 1);
  EXPECT_EQ(policies["AutoSnapshotPolicies"]["AutoSnapshotPolicy"][0]["Tags"]["Tag"][0]["TagValue"],
            "1");
  Params value_alone = {{"Tag.1.Value", "1"}};
  for (const char* action :
       {"DescribeDisks", "DescribeSnapshots", "DescribeInstances", "DescribeSnapshotGroups",
        "DescribeAutoSnapshotPolicyEx", "DescribeTags", "DescribeResourceByTags"}) {
    SCOPED_TRACE(action);
    EXPECT_REFUSED(daemon.ask(action, value_alone), 400, "InvalidTag.Mismatch");
    EXPECT_REFUSED(daemon.ask(action, many_tags(21)), 400, "InvalidTagCount");
  }
  const char* const creating[] = {"CreateDisk", "CreateSnapshot", "CreateAutoSnapshotPolicy"};
  const Params wanted = {{"Size", "40"},
                         {"DiskId", a},
                         {"timePoints", "[\"6\"]"},
                         {"repeatWeekdays", "[\"1\"]"},
                         {"retentionDays", "7"}};
  for (const char* action : creating) {
    SCOPED_TRACE(action);
    const auto refused = [&](Params tags, const char* code) {
      tags.insert(wanted.begin(), wanted.end());
      EXPECT_REFUSED(daemon.ask(action, tags), 400, code);
    };
    refused({{"Tag.1.Key", "a"}, {"Tag.2.Key", "a"}}, "Duplicate.TagKey");
    refused({{"Tag.1.Key", "acs:"}}, "InvalidTagKey.Malformed");
    refused({{"Tag.1.Key", "a"}, {"Tag.1.Value", "https://"}}, "InvalidTagValue.Malformed");
  }
}

}  // namespace
}  // namespace clouddisk
