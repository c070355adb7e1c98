#include "engine/catalog/places.h"

#include <gtest/gtest.h>

namespace clouddisk {
namespace {

using Names = std::vector<std::string>;

TEST(Places, ZonesBelongToTheRegionThatTheyBeginWith) {
  const auto places =
      Places::parse({"cn-a", "cn-a-big", "cn-b"}, {"cn-a-big-1", "cn-a-1", "cn-a-2"});
  ASSERT_TRUE(places) << places.error().message;
  const std::vector<Region> expected = {
      {"cn-a", {"cn-a-1", "cn-a-2"}}, {"cn-a-big", {"cn-a-big-1"}}, {"cn-b", {"cn-b-a"}}};
  EXPECT_EQ(places->regions(), expected);
  EXPECT_EQ(places->home().id, "cn-a");
  EXPECT_EQ(places->find_by_zone("cn-b-a")->id, "cn-b");
  EXPECT_EQ(places->find("cn-c"), nullptr);
  const auto one = Places::parse({"here"}, {"upstairs"});
  ASSERT_TRUE(one) << "the only region has every zone, whatever its name";
  EXPECT_EQ(one->home().zones, Names{"upstairs"});
}

TEST(Places, NamesThatMakeNoSenseAreRefused) {
  struct Case {
    Names regions, zones;
  };
  for (const Case& c : {Case{{}, {}},
                        {{""}, {}},
                        {{"a b"}, {}},
                        {{std::string(65, 'a')}, {}},
                        {{"a", "a"}, {}},
                        {{"a"}, {"z", "z"}},
                        {{"a", "b"}, {"c-1"}},
                        {{"a", "b"}, {"a"}}}) {
    EXPECT_FALSE(Places::parse(c.regions, c.zones));
  }
}

TEST(Places, WhatARequestLeavesOutIsTheDefault) {
  const Places places(std::vector<Region>{{"r1", {"r1-a", "r1-b"}}, {"r2", {"r2-a"}}});
  struct Case {
    const char* name;
    Location asked;
    const char* code;  // nullptr: fine
    Location found;
  };
  const Case cases[] = {
      {"nothing", {"", ""}, nullptr, {"r1", "r1-a"}},
      {"region", {"r2", ""}, nullptr, {"r2", "r2-a"}},
      {"zone", {"", "r2-a"}, nullptr, {"r2", "r2-a"}},
      {"both", {"r1", "r1-b"}, nullptr, {"r1", "r1-b"}},
      {"another's zone", {"r1", "r2-a"}, "InvalidZoneId.NotFound", {}},
      {"no zone", {"r1", "r1-c"}, "InvalidZoneId.NotFound", {}},
      {"no zone anywhere", {"", "x"}, "InvalidZoneId.NotFound", {}},
      {"no region", {"r3", ""}, "InvalidRegionId.NotFound", {}},
  };
  for (const Case& c : cases) {
    Location at = c.asked;
    const Verdict verdict = location_must_exist(places, at);
    ASSERT_EQ(verdict.has_value(), c.code != nullptr) << c.name;
    if (verdict) {
      EXPECT_EQ(verdict->code, c.code) << c.name;
      EXPECT_EQ(verdict->http_status, 404) << c.name;
    } else {
      EXPECT_EQ(at.region, c.found.region) << c.name;
      EXPECT_EQ(at.zone, c.found.zone) << c.name;
    }
  }
}

}  // namespace
}  // namespace clouddisk
