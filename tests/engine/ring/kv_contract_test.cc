// kv.h, held by both implementations: LMDB in a folder, and the simulator's model.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "engine/ring/kv.h"
#include "engine/ring/lmdb_kv.h"
#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk {
namespace {

enum class Kind { kSimulated, kLmdb };

class KvContract : public testing::TestWithParam<Kind> {
 protected:
  KvContract() {
    if (GetParam() == Kind::kSimulated) {
      machine_ = std::make_unique<SimMachine>(1);
      ring_ = std::make_unique<SimRing>(*machine_);
    } else {
      folder_ = std::make_unique<TemporaryFolder>();
    }
  }

  Result<std::unique_ptr<Kv>> try_open(const std::string& name, const KvOptions& options) {
    if (ring_ != nullptr) return ring_->open_kv("/" + name, options);
    return open_lmdb(folder_->path() + "/" + name, options);
  }
  std::unique_ptr<Kv> open(bool lazy = false) {
    auto kv = try_open("kv", KvOptions{.lazy_sync = lazy});
    EXPECT_OK(kv);
    return kv ? *std::move(kv) : nullptr;
  }

  std::unique_ptr<SimMachine> machine_;
  std::unique_ptr<SimRing> ring_;
  std::unique_ptr<TemporaryFolder> folder_;
};

INSTANTIATE_TEST_SUITE_P(Kv, KvContract, testing::Values(Kind::kSimulated, Kind::kLmdb),
                         [](const auto& info) {
                           return info.param == Kind::kLmdb ? "Lmdb" : "Simulated";
                         });

void put(Kv& kv, std::string_view key, std::string_view value) {
  auto writer = kv.write();
  ASSERT_OK(writer);
  EXPECT_OK((*writer)->put(as_bytes(key), as_bytes(value)));
  EXPECT_OK((*writer)->commit());
}

std::optional<std::string> get(KvReader& reader, std::string_view key) {
  auto value = reader.get(as_bytes(key));
  EXPECT_OK(value);
  if (!value || !*value) return std::nullopt;
  return std::string(as_text(**value));
}
std::optional<std::string> get(Kv& kv, std::string_view key) {
  auto reader = kv.read();
  EXPECT_OK(reader);
  return get(**reader, key);
}

using Entries = std::vector<std::pair<std::string, std::string>>;
Entries scan(KvReader& reader, std::string_view first, std::string_view last,
             std::size_t count_max = SIZE_MAX) {
  Entries entries;
  EXPECT_OK(reader.scan(as_bytes(first), as_bytes(last), [&](KvBytes key, KvBytes value) {
    entries.emplace_back(as_text(key), as_text(value));
    return entries.size() < count_max;
  }));
  return entries;
}

TEST_P(KvContract, WhatWasCommittedIsThereAfterReopening) {
  {
    auto kv = open();
    put(*kv, "a", "1");
    put(*kv, "b", "");
    put(*kv, "a", "2");
  }
  auto kv = open();
  EXPECT_EQ(get(*kv, "a"), "2");
  EXPECT_EQ(get(*kv, "b"), "");
  EXPECT_EQ(get(*kv, "c"), std::nullopt);
  EXPECT_GT(kv->size_bytes(), 0U);
}

TEST(LmdbKv, OneThatThereWasNoSpaceForIsMadeLater) {
  const TemporaryFolder folder;
  ASSERT_OK(open_lmdb(folder.path(), {}));
  // The lock file stays as it is: what fails is to write the first pages.
  std::filesystem::remove(folder.path() + "/data.mdb");
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit none{0, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
  const bool made = open_lmdb(folder.path(), {}).has_value();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::signal(SIGXFSZ, before);
  EXPECT_FALSE(made);
  EXPECT_OK(open_lmdb(folder.path(), {}));
}

TEST_P(KvContract, WithoutCreateAMissingOneIsNotFound) {
  auto missing = try_open("missing", KvOptions{.create = false});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::kNotFound);
  { auto made = open(); }
  EXPECT_OK(try_open("kv", KvOptions{.create = false}));
}

TEST_P(KvContract, ADroppedWriterLosesAllOfItsChanges) {
  auto kv = open();
  put(*kv, "a", "1");
  {
    auto writer = kv->write();
    ASSERT_OK(writer);
    EXPECT_OK((*writer)->put(as_bytes("a"), as_bytes("2")));
    EXPECT_OK((*writer)->put(as_bytes("b"), as_bytes("2")));
    EXPECT_EQ(get(**writer, "a"), "2") << "a writer reads its own changes";
  }
  EXPECT_EQ(get(*kv, "a"), "1");
  EXPECT_EQ(get(*kv, "b"), std::nullopt);
}

TEST_P(KvContract, AfterCommitTheTransactionIsOver) {
  auto kv = open();
  auto writer = kv->write();
  ASSERT_OK(writer);
  EXPECT_OK((*writer)->commit());
  EXPECT_FALSE((*writer)->put(as_bytes("a"), as_bytes("1")));
  EXPECT_FALSE((*writer)->commit());
  put(*kv, "b", "the environment goes on");
}

TEST_P(KvContract, AReaderSeesOneStateWhateverIsCommittedMeanwhile) {
  auto kv = open();
  put(*kv, "a", "1");
  auto reader = kv->read();
  ASSERT_OK(reader);
  EXPECT_EQ(get(**reader, "a"), "1");
  // On a thread of its own, as workers are.
  std::thread([&kv] {
    put(*kv, "a", "2");
    put(*kv, "b", "2");
  }).join();
  EXPECT_EQ(get(**reader, "a"), "1");
  EXPECT_EQ(get(**reader, "b"), std::nullopt);
  reader = Result<std::unique_ptr<KvReader>>(std::unique_ptr<KvReader>());
  EXPECT_EQ(get(*kv, "a"), "2");
}

TEST_P(KvContract, KeysAreOrderedAsUnsignedBytes) {
  auto kv = open();
  const std::string high("\xff\x01", 2);
  const std::string zero("a\0", 2);
  for (const std::string& key :
       {std::string("b"), high, zero, std::string("a"), std::string("aa")}) {
    put(*kv, key, "v");
  }
  auto reader = kv->read();
  ASSERT_OK(reader);
  std::vector<std::string> keys;
  for (const auto& [key, value] : scan(**reader, std::string(1, '\0'), "\xff\xff")) {
    keys.push_back(key);
  }
  EXPECT_EQ(keys, (std::vector<std::string>{"a", zero, "aa", "b", high}));
}

TEST_P(KvContract, SeeksFindTheNeighbours) {
  auto kv = open();
  for (const char* key : {"b", "d", "f"}) put(*kv, key, std::string(key) + key);
  auto reader = kv->read();
  ASSERT_OK(reader);
  struct Case {
    const char* key;
    const char* lower_bound;
    const char* floor;
  };
  const Case kCases[] = {
      {"a", "b", nullptr}, {"b", "b", "b"}, {"c", "d", "b"}, {"f", "f", "f"}, {"g", nullptr, "f"}};
  for (const Case& c : kCases) {
    auto above = (*reader)->lower_bound(as_bytes(c.key));
    auto below = (*reader)->floor(as_bytes(c.key));
    ASSERT_OK(above);
    ASSERT_OK(below);
    EXPECT_EQ(above->has_value() ? std::string(as_text((**above).key)) : "none",
              c.lower_bound != nullptr ? c.lower_bound : "none")
        << c.key;
    EXPECT_EQ(below->has_value() ? std::string(as_text((**below).key)) : "none",
              c.floor != nullptr ? c.floor : "none")
        << c.key;
    if (above->has_value()) {
      EXPECT_EQ(as_text((**above).value).size(), 2U);
    }
  }
}

TEST_P(KvContract, SeeksInAnEmptyEnvironmentFindNothing) {
  auto kv = open();
  auto reader = kv->read();
  ASSERT_OK(reader);
  EXPECT_FALSE(*(*reader)->lower_bound(as_bytes("a")));
  EXPECT_FALSE(*(*reader)->floor(as_bytes("a")));
  EXPECT_TRUE(scan(**reader, "a", "z").empty());
}

TEST_P(KvContract, AScanIsHalfOpenAndStopsWhenTold) {
  auto kv = open();
  for (const char* key : {"a", "b", "c", "d"}) put(*kv, key, key);
  auto reader = kv->read();
  ASSERT_OK(reader);
  EXPECT_EQ(scan(**reader, "b", "d"), (Entries{{"b", "b"}, {"c", "c"}}));
  EXPECT_EQ(scan(**reader, "a", "z", 2), (Entries{{"a", "a"}, {"b", "b"}}));
  EXPECT_TRUE(scan(**reader, "c", "c").empty());
  EXPECT_TRUE(scan(**reader, "d", "a").empty());
}

TEST_P(KvContract, ErasingIsFineWhereThereIsNothing) {
  auto kv = open();
  for (const char* key : {"a", "b", "c", "d"}) put(*kv, key, key);
  auto writer = kv->write();
  ASSERT_OK(writer);
  EXPECT_OK((*writer)->erase(as_bytes("x")));
  EXPECT_OK((*writer)->erase_range(as_bytes("b"), as_bytes("d")));
  EXPECT_OK((*writer)->erase_range(as_bytes("x"), as_bytes("z")));
  EXPECT_OK((*writer)->erase_range(as_bytes("z"), as_bytes("a")));
  EXPECT_OK((*writer)->commit());
  auto reader = kv->read();
  ASSERT_OK(reader);
  EXPECT_EQ(scan(**reader, "a", "z"), (Entries{{"a", "a"}, {"d", "d"}}));
}

TEST_P(KvContract, AnImpossibleKeyIsRefusedAndEndsTheTransaction) {
  auto kv = open();
  put(*kv, "a", "1");
  for (const std::string& key : {std::string(), std::string(512, 'k')}) {
    auto writer = kv->write();
    ASSERT_OK(writer);
    EXPECT_OK((*writer)->put(as_bytes("a"), as_bytes("2")));
    const auto refused = (*writer)->put(as_bytes(key), as_bytes("v"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kInvalid);
    EXPECT_FALSE((*writer)->commit());
  }
  EXPECT_EQ(get(*kv, "a"), "1");
  put(*kv, std::string(511, 'k'), "the longest");
  EXPECT_EQ(get(*kv, std::string(511, 'k')), "the longest");
}

TEST_P(KvContract, LargeValuesAndManyKeysFit) {
  auto kv = open(true);
  const std::string large(200'000, 'x');
  auto writer = kv->write();
  ASSERT_OK(writer);
  for (int i = 0; i < 500; ++i) {
    ASSERT_OK((*writer)->put(as_bytes("key " + std::to_string(i)), as_bytes(large)));
  }
  EXPECT_OK((*writer)->commit());
  EXPECT_OK(kv->sync());
  EXPECT_GE(kv->size_bytes(), 100'000'000U);
  EXPECT_EQ(get(*kv, "key 499"), large);
}

// Random transactions against std::map: what a writer sees, what is left of an aborted one, what a
// reader that was opened earlier sees, and what is there after reopening.
// LMDB is opened anew after a transaction of this size, and lets go of what many lookups mapped.
TEST_P(KvContract, AfterAHugeTransactionEverythingIsFoundAndTheNextOneWorks) {
  const auto kv = open(true);
  constexpr int kValues = 6000;
  const auto value_of = [](int i, int round) {
    return std::string(3600, static_cast<char>('a' + (i + round) % 26));
  };
  for (int round = 0; round < 2; ++round) {
    auto writer = kv->write();
    ASSERT_OK(writer);
    for (int i = 0; i < kValues; ++i) {
      const std::string key = fmt::format("{:08}", i);
      ASSERT_OK((*writer)->put(as_bytes(key), as_bytes(value_of(i, round))));
    }
    ASSERT_OK((*writer)->commit());
    for (int i = 0; i < kValues; i += 7) {
      ASSERT_EQ(get(*kv, fmt::format("{:08}", i)), value_of(i, round)) << i;
    }
  }
  put(*kv, "after", "it");
  EXPECT_EQ(get(*kv, "after"), "it");
}

TEST_P(KvContract, ModelAnOrderedMap) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::map<std::string, std::string> model;
  auto kv = open(true);
  const auto random_key = [&random] {
    std::string key(random.between(1, 3), '\0');
    for (char& c : key) c = static_cast<char>(random.below(6) * 51);
    return key;
  };
  const auto check_seeks = [&](KvReader& reader, const std::map<std::string, std::string>& state) {
    const std::string key = random_key();
    const auto above = state.lower_bound(key);
    auto found = reader.lower_bound(as_bytes(key));
    ASSERT_OK(found);
    ASSERT_EQ(found->has_value(), above != state.end());
    if (found->has_value()) {
      ASSERT_EQ(as_text((**found).key), above->first);
      ASSERT_EQ(as_text((**found).value), above->second);
    }
    const auto after = state.upper_bound(key);
    auto floor = reader.floor(as_bytes(key));
    ASSERT_OK(floor);
    ASSERT_EQ(floor->has_value(), after != state.begin());
    if (floor->has_value()) {
      ASSERT_EQ(as_text((**floor).key), std::prev(after)->first);
      ASSERT_EQ(as_text((**floor).value), std::prev(after)->second);
    }
    ASSERT_EQ(get(reader, key), state.contains(key) ? std::optional(state.at(key)) : std::nullopt);
  };
  for (int round = 0; round < 150; ++round) {
    auto working = model;
    {
      auto writer = kv->write();
      ASSERT_OK(writer);
      const std::uint64_t changes = random.below(20);
      for (std::uint64_t i = 0; i < changes; ++i) {
        const std::string key = random_key();
        const std::uint64_t dice = random.below(10);
        if (dice < 6) {
          const std::string value(random.below(30), static_cast<char>(random.below(256)));
          ASSERT_OK((*writer)->put(as_bytes(key), as_bytes(value)));
          working[key] = value;
        } else if (dice < 9) {
          ASSERT_OK((*writer)->erase(as_bytes(key)));
          working.erase(key);
        } else {
          const std::string last = random_key();
          ASSERT_OK((*writer)->erase_range(as_bytes(key), as_bytes(last)));
          if (key < last) working.erase(working.lower_bound(key), working.lower_bound(last));
        }
        check_seeks(**writer, working);
        if (HasFatalFailure()) return;
      }
      if (random.below(4) != 0) {
        ASSERT_OK((*writer)->commit());
        model = working;
      }
    }
    if (random.one_in(10)) {
      kv.reset();
      kv = open(true);
    }
    auto reader = kv->read();
    ASSERT_OK(reader);
    for (int i = 0; i < 5; ++i) {
      check_seeks(**reader, model);
      if (HasFatalFailure()) return;
    }
    const std::string first = random_key();
    const std::string last = random_key();
    Entries expected;
    if (first < last) {
      expected.assign(model.lower_bound(first), model.lower_bound(last));
    }
    ASSERT_EQ(scan(**reader, first, last), expected) << "round " << round;
  }
}

}  // namespace
}  // namespace clouddisk
