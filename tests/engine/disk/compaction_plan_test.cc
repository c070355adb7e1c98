#include "engine/disk/compaction_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "engine/base/random.h"
#include "engine/log/segment_format.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

SpaceUse with_garbage(std::uint64_t live_bytes, std::uint64_t garbage_bytes) {
  return {live_bytes + garbage_bytes, live_bytes};
}

TEST(CompactionPlan, GarbageIsWhatIsStoredBeyondLiveAndNeverNegative) {
  EXPECT_EQ((SpaceUse{0, 0}.garbage()), 0U);
  EXPECT_EQ((SpaceUse{5_GiB, 3_GiB}.garbage()), 2_GiB);
  // Live counts are an upper bound: they may be ahead of what is stored.
  EXPECT_EQ((SpaceUse{3_GiB, 5_GiB}.garbage()), 0U);
}

// The three thresholds of the header, each at its edge and one byte beyond.
TEST(CompactionPlan, ThresholdsAreThoseOfTheHeader) {
  const struct {
    const char* name;
    std::uint64_t live;
    std::uint64_t due_above;   // a quarter, and 512 MiB
    std::uint64_t slow_above;  // three eighths, and 768 MiB
    std::uint64_t wait_from;   // a half, and 1 GiB
  } rows[] = {
      {"an empty disk", 0, 512_MiB, 768_MiB, 1_GiB},
      {"a small disk", 1_GiB, 768_MiB, 1152_MiB, 1536_MiB},
      {"a large disk", 8_TiB, 2_TiB + 512_MiB, 3_TiB + 768_MiB, 4_TiB + 1_GiB},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    EXPECT_FALSE(compaction_due(with_garbage(row.live, 0)));
    EXPECT_FALSE(compaction_due(with_garbage(row.live, row.due_above)));
    EXPECT_TRUE(compaction_due(with_garbage(row.live, row.due_above + 1)));

    EXPECT_EQ(write_pressure(with_garbage(row.live, 0)), 0);
    EXPECT_EQ(write_pressure(with_garbage(row.live, row.slow_above)), 0);
    EXPECT_GT(write_pressure(with_garbage(row.live, row.slow_above + 1)), 0);
    EXPECT_LT(write_pressure(with_garbage(row.live, row.wait_from - 1)), 1);
    EXPECT_EQ(write_pressure(with_garbage(row.live, row.wait_from)), 1);
    EXPECT_EQ(write_pressure(with_garbage(row.live, 100 * row.wait_from)), 1);

    const std::uint64_t half_way = (row.slow_above + row.wait_from) / 2;
    EXPECT_DOUBLE_EQ(write_pressure(with_garbage(row.live, half_way)), 0.5);
  }
}

TEST(CompactionPlan, MoreGarbageNeverMeansLessPressureAndTheCleanerRunsBeforeWritersAreSlowed) {
  Random random(announce_seed());
  for (int disk = 0; disk < 200; ++disk) {
    const std::uint64_t live = random.below(std::uint64_t{1} << random.between(1, 45));
    const std::uint64_t step = 1 + (live / 2 + 1_GiB) / 300;
    double before = 0;
    bool was_due = false;
    for (std::uint64_t garbage = 0; garbage < live + 2_GiB; garbage += random.between(1, step)) {
      const SpaceUse use = with_garbage(live, garbage);
      const double pressure = write_pressure(use);
      ASSERT_GE(pressure, before) << "live " << live << " garbage " << garbage;
      ASSERT_LE(pressure, 1) << "live " << live << " garbage " << garbage;
      const bool due = compaction_due(use);
      ASSERT_TRUE(due || !was_due) << "live " << live << " garbage " << garbage;
      ASSERT_TRUE(due || pressure == 0) << "live " << live << " garbage " << garbage;
      before = pressure;
      was_due = due;
    }
    EXPECT_EQ(before, 1) << "live " << live;
  }
}

// --- choose_victims ---

constexpr SegmentSeq kAll{1000};

std::set<SegmentSeq> segments(std::initializer_list<std::uint64_t> numbers) {
  std::set<SegmentSeq> set;
  for (const std::uint64_t number : numbers) set.insert(SegmentSeq(number));
  return set;
}
LiveCounts live_of(std::initializer_list<std::pair<std::uint64_t, double>> shares) {
  LiveCounts live;
  for (const auto& [segment, share] : shares) {
    live[SegmentSeq(segment)] = static_cast<std::uint64_t>(share * kSegmentBlocks);
  }
  return live;
}
std::string text(const std::vector<SegmentSeq>& victims) {
  std::string text;
  for (const SegmentSeq victim : victims) text += std::to_string(victim.value) + ' ';
  return text;
}

TEST(CompactionPlan, VictimsAreEmptyBeforeFullAndOldBeforeYoung) {
  const struct {
    const char* name;
    std::set<SegmentSeq> segments;
    LiveCounts live;
    SegmentSeq complete_before;
    std::size_t count_max;
    const char* expected;
  } rows[] = {
      {"no segments", {}, {}, kAll, 8, ""},
      {"of one age about, the emptier first", segments({100, 101, 102}),
       live_of({{100, 0.8}, {101, 0.5}, {102, 0.2}}), kAll, 8, "102 101 100 "},
      {"equally full, the older first", segments({100, 500, 900}),
       live_of({{100, 0.5}, {500, 0.5}, {900, 0.5}}), kAll, 8, "100 500 900 "},
      {"a segment without a count is all garbage", segments({100, 101}), live_of({{100, 0.1}}),
       kAll, 8, "101 100 "},
      // 990 gives (1 - 0) * 10 / (1 + 0) = 10, 100 gives (1 - 0.7) * 900 / (1 + 0.7) = 159.
      {"a full one that stays so goes before a young one that still dies", segments({100, 990}),
       live_of({{100, 0.7}, {990, 0.0}}), kAll, 8, "100 990 "},
      // 600 gives (1 - 0.2) * 400 / (1 + 0.2) = 267, 100 the 159 of above.
      {"age does not make up for everything", segments({100, 600}),
       live_of({{100, 0.7}, {600, 0.2}}), kAll, 8, "600 100 "},
      // 800 gives 200; 100 wins more space times age, 270, but has to be read and written for it.
      {"what has to be copied counts against it", segments({100, 800}),
       live_of({{100, 0.7}, {800, 0.0}}), kAll, 8, "800 100 "},
      {"at most so many", segments({100, 101, 102}), live_of({{100, 0.8}, {101, 0.5}, {102, 0.2}}),
       kAll, 2, "102 101 "},
      {"none asked for", segments({100, 101}), {}, kAll, 0, ""},
      {"what is over nine tenths full stays", segments({100, 101, 102}),
       live_of({{100, 1.0}, {101, 0.91}, {102, 0.89}}), kAll, 8, "102 "},
      {"what is not complete stays, were it empty",
       segments({7, 8, 9}),
       {},
       SegmentSeq(8),
       8,
       "7 "},
      {"none is complete", segments({7, 8, 9}), {}, SegmentSeq(7), 8, ""},
      {"counts of segments that are gone say nothing", segments({100}), live_of({{3, 0.1}}), kAll,
       8, "100 "},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(text(choose_victims(row.segments, row.live, row.complete_before, row.count_max)),
              row.expected)
        << row.name;
  }
}

// Whatever the weights are: a segment that is both older and emptier never comes after one that is
// younger and fuller, and is never left out in favour of it.
TEST(CompactionPlan, NoVictimIsWorseThanOneThatWasLeftBehind) {
  Random random(announce_seed());
  for (int round = 0; round < 300; ++round) {
    std::set<SegmentSeq> all;
    LiveCounts live;
    for (std::uint64_t i = random.below(40); i > 0; --i) {
      const SegmentSeq segment(random.between(1, 200));
      all.insert(segment);
      if (!random.one_in(5)) live[segment] = random.between(0, kSegmentBlocks);
    }
    const SegmentSeq complete_before(random.between(1, 210));
    const std::size_t count_max = random.below(20);
    const auto victims = choose_victims(all, live, complete_before, count_max);

    const auto used = [&live](SegmentSeq segment) {
      const auto it = live.find(segment);
      return it == live.end() ? 0 : it->second;
    };
    const auto eligible = [&](SegmentSeq segment) {
      return segment < complete_before && used(segment) * 10 <= kSegmentBlocks * 9;
    };
    const auto place = [&victims](SegmentSeq segment) {
      return std::find(victims.begin(), victims.end(), segment) - victims.begin();
    };
    const auto eligible_count =
        static_cast<std::size_t>(std::count_if(all.begin(), all.end(), eligible));
    ASSERT_EQ(victims.size(), std::min(count_max, eligible_count));
    for (const SegmentSeq victim : victims) {
      ASSERT_EQ(all.count(victim), 1U) << victim.value;
      ASSERT_TRUE(eligible(victim)) << victim.value;
      for (const SegmentSeq better : all) {
        if (better >= victim || used(better) > used(victim) || !eligible(better)) continue;
        ASSERT_LT(place(better), place(victim)) << better.value << " and " << victim.value;
      }
    }
  }
}

TEST(SparesToKeep, TakeWhatGarbageLeavesOfItsAllowanceAndAreFourToSixteen) {
  struct Row {
    const char* name;
    std::uint64_t live, garbage;
    std::size_t spares;
  };
  const Row rows[] = {
      {"an empty disk", 0, 0, 16},
      {"cleaned as far as it goes", 0, 512_MiB, 8},
      {"as much garbage as there may be", 1_GiB, 1536_MiB, 4},
      {"beyond it", 1_GiB, 4_GiB, 4},
      {"room for five", 1_GiB, 1536_MiB - 5 * kSegmentSize, 5},
      {"part of a segment is none", 1_GiB, 1536_MiB - 6 * kSegmentSize + 1, 5},
      {"a large disk", 100_GiB, 0, 16},
  };
  for (const Row& row : rows) {
    SpaceUse use;
    use.live_bytes = row.live;
    use.stored_bytes = row.live + row.garbage;
    EXPECT_EQ(spares_to_keep(use), row.spares) << row.name;
    if (row.spares > 4) {
      EXPECT_LE(use.stored_bytes + row.spares * kSegmentSize, row.live / 2 * 3 + 1_GiB) << row.name;
    }
  }
}

}  // namespace
}  // namespace clouddisk
