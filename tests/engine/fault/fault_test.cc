// Which faults make sense, and how they are told.
#include "engine/fault/fault.h"

#include <gtest/gtest.h>

namespace clouddisk {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

FaultSpec spec_of(FaultKind kind, FaultOps ops = 0) {
  FaultSpec spec;
  spec.kind = kind;
  spec.ops = ops;
  return spec;
}

TEST(FaultRules, WhatIsLeftOutIsAllThatTheKindCanMeet) {
  const struct {
    FaultKind kind;
    FaultOps ops;
  } kRows[] = {
      {FaultKind::kSlow, kFaultRead | kFaultWrite | kFaultFlush},
      {FaultKind::kError, kFaultRead | kFaultWrite | kFaultFlush},
      {FaultKind::kCorrupt, kFaultRead | kFaultWrite},
      {FaultKind::kTorn, kFaultWrite},
      {FaultKind::kDrop, kFaultWrite | kFaultFlush},
      {FaultKind::kFull, kFaultWrite},
      {FaultKind::kHang, kFaultRead | kFaultWrite | kFaultFlush},
  };
  for (const auto& row : kRows) {
    const auto spec = complete(spec_of(row.kind));
    ASSERT_TRUE(spec) << name(row.kind);
    EXPECT_EQ(spec->ops, row.ops) << name(row.kind);
    EXPECT_EQ(spec->rate, 1) << name(row.kind);
    EXPECT_EQ(parse_fault_kind(name(row.kind)), row.kind);
  }
  EXPECT_EQ(complete(spec_of(FaultKind::kSlow))->delay, kFaultDelay);
}

TEST(FaultRules, WhatMakesNoSenseIsRefusedInWordsThatSayWhatWould) {
  FaultSpec read_torn = spec_of(FaultKind::kTorn, kFaultRead);
  FaultSpec flush_full = spec_of(FaultKind::kFull, kFaultFlush);
  FaultSpec read_dropped = spec_of(FaultKind::kDrop, kFaultRead | kFaultWrite);
  FaultSpec replica_blocks = spec_of(FaultKind::kError);
  replica_blocks.replica = 1;
  replica_blocks.blocks = FaultSpec::Blocks{Lba(0), Lba(7)};
  FaultSpec backwards = spec_of(FaultKind::kError);
  backwards.blocks = FaultSpec::Blocks{Lba(8), Lba(7)};
  FaultSpec flush_blocks = spec_of(FaultKind::kError, kFaultFlush);
  flush_blocks.blocks = FaultSpec::Blocks{Lba(0), Lba(7)};
  FaultSpec never = spec_of(FaultKind::kError);
  never.rate = 0;
  FaultSpec too_often = spec_of(FaultKind::kError);
  too_often.rate = 1.5;
  FaultSpec delayed_error = spec_of(FaultKind::kError);
  delayed_error.delay = milliseconds(5);
  FaultSpec too_slow = spec_of(FaultKind::kSlow);
  too_slow.delay = seconds(61);
  FaultSpec too_long = spec_of(FaultKind::kError);
  too_long.lifetime = hours(24 * 8);
  const struct {
    const FaultSpec& spec;
    std::string_view says;
  } kRows[] = {
      {read_torn, "'torn' can't meet a read: it is for write"},
      {flush_full, "'full' can't meet a flush: it is for write"},
      {read_dropped, "'drop' can't meet a read: it is for write, flush"},
      {replica_blocks, "a replica keeps the disk as a log"},
      {backwards, "blocks 8-7 end before they begin"},
      {flush_blocks, "a flush is of the whole disk"},
      {never, "a rate is above 0 and at most 1"},
      {too_often, "a rate is above 0 and at most 1"},
      {delayed_error, "a delay is for 'slow'"},
      {too_slow, "at most 60 s, not 61 s"},
      {too_long, "at most 604800 s"},
  };
  for (const auto& row : kRows) {
    const auto refused = complete(row.spec);
    ASSERT_FALSE(refused) << row.says;
    EXPECT_EQ(refused.error().code, Errc::kInvalid);
    EXPECT_NE(refused.error().message.find(row.says), std::string::npos) << refused.error().message;
  }
}

TEST(FaultRules, BlocksLeaveFlushesOut) {
  FaultSpec spec = spec_of(FaultKind::kError);
  spec.blocks = FaultSpec::Blocks{Lba(0), Lba(255)};
  spec.rate = 0.1;
  const auto completed = complete(spec);
  ASSERT_TRUE(completed);
  EXPECT_EQ(describe(*completed), "error on read, write, 10 %, blocks 0-255");
}

TEST(FaultRules, OnlyWritesLeaveDamageBehind) {
  EXPECT_TRUE(spec_of(FaultKind::kDrop, kFaultWrite).damages_media());
  EXPECT_TRUE(spec_of(FaultKind::kCorrupt, kFaultRead | kFaultWrite).damages_media());
  EXPECT_FALSE(spec_of(FaultKind::kCorrupt, kFaultRead).damages_media());
  EXPECT_FALSE(spec_of(FaultKind::kDrop, kFaultFlush).damages_media());
  EXPECT_FALSE(spec_of(FaultKind::kHang, kFaultWrite).damages_media());
}

}  // namespace
}  // namespace clouddisk
