#include "engine/ring/sim_kv.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/engine/ring/sim_support.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using Model = std::map<std::string, std::string>;

Model content_of(KvReader& reader) {
  Model content;
  const std::string end(511, '\xff');
  EXPECT_TRUE(reader.scan(as_bytes(std::string(1, '\0')), as_bytes(end), [&](KvBytes k, KvBytes v) {
    content.emplace(as_text(k), as_text(v));
    return true;
  }));
  return content;
}
Model content_of(Kv& kv) {
  auto reader = kv.read();
  EXPECT_TRUE(reader);
  return reader ? content_of(**reader) : Model{};
}
Result<void> put_one(Kv& kv, const std::string& key, const std::string& value) {
  auto writer = kv.write();
  if (!writer) return writer.error();
  if (auto put = (*writer)->put(as_bytes(key), as_bytes(value)); !put) return put;
  return (*writer)->commit();
}
std::unique_ptr<Kv> open_env(Ring& ring, bool lazy = false) {
  KvOptions options;
  options.lazy_sync = lazy;
  auto kv = ring.open_kv("/env", options);
  EXPECT_TRUE(kv);
  return kv ? std::move(*kv) : nullptr;
}
void make_names_durable(Ring& ring) {
  EXPECT_TRUE(ring.block_on(ring.sync_directory("/env")));
  EXPECT_TRUE(ring.block_on(ring.sync_directory("/")));
}

std::string random_key(Random& random) {
  std::string key(random.between(1, 3), '\0');
  for (char& c : key) c = static_cast<char>(random.below(6) * 51);  // 0 to 255: unsigned order.
  return key;
}

std::optional<std::string> key_text(const Result<std::optional<KvReader::Entry>>& entry) {
  EXPECT_TRUE(entry);
  if (!entry || !entry->has_value()) return std::nullopt;
  return std::string(as_text((*entry)->key));
}

void compare_lookups(KvReader& reader, const Model& model, const std::string& key) {
  const auto found = reader.get(as_bytes(key));
  ASSERT_TRUE(found);
  ASSERT_EQ(found->has_value(), model.contains(key));
  if (found->has_value()) {
    ASSERT_EQ(as_text(**found), model.at(key));
  }
  const auto above = model.lower_bound(key);
  ASSERT_EQ(key_text(reader.lower_bound(as_bytes(key))),
            above == model.end() ? std::nullopt : std::optional(above->first));
  const auto beyond = model.upper_bound(key);
  ASSERT_EQ(key_text(reader.floor(as_bytes(key))),
            beyond == model.begin() ? std::nullopt : std::optional(std::prev(beyond)->first));
}

TEST(SimKv, RandomTransactionsEqualTheModel) {
  Random random(announce_seed());
  SimMachine machine(random.next());
  SimRing ring(machine);
  const auto kv = open_env(ring);
  Model model;
  for (int txn = 0; txn < 500; ++txn) {
    Model next = model;
    auto writer = kv->write();
    ASSERT_TRUE(writer);
    for (std::uint64_t i = random.below(10); i > 0; --i) {
      const std::string key = random_key(random);
      const std::string last = random_key(random);
      switch (random.below(6)) {
        case 0:
          ASSERT_TRUE((*writer)->erase(as_bytes(key)));
          next.erase(key);
          break;
        case 1:
          ASSERT_TRUE((*writer)->erase_range(as_bytes(key), as_bytes(last)));
          if (key < last) next.erase(next.lower_bound(key), next.lower_bound(last));
          break;
        default: {
          const std::string value(random.below(50), static_cast<char>('a' + random.below(26)));
          ASSERT_TRUE((*writer)->put(as_bytes(key), as_bytes(value)));
          next[key] = value;
        }
      }
      compare_lookups(**writer, next, random_key(random));
    }
    ASSERT_EQ(content_of(**writer), next);
    if (random.one_in(3)) continue;  // Dropped.
    ASSERT_TRUE((*writer)->commit());
    model = std::move(next);
    ASSERT_EQ(content_of(*kv), model);
  }
}

TEST(SimKv, AReaderSeesTheStateOfItsBeginning) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  const auto kv = open_env(ring);
  ASSERT_TRUE(put_one(*kv, "a", "1"));
  auto reader = kv->read();
  ASSERT_TRUE(put_one(*kv, "a", "2"));
  EXPECT_EQ(content_of(**reader), (Model{{"a", "1"}}));
  EXPECT_EQ(content_of(*kv), (Model{{"a", "2"}}));
}

TEST(SimKv, ScanStopsWhenTold) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  const auto kv = open_env(ring);
  for (const char* key : {"a", "b", "c", "d"}) ASSERT_TRUE(put_one(*kv, key, "x"));
  std::string seen;
  ASSERT_TRUE((*kv->read())->scan(as_bytes("b"), as_bytes("d"), [&](KvBytes k, KvBytes) {
    seen += as_text(k);
    return seen.size() < 1;
  }));
  EXPECT_EQ(seen, "b");
}

TEST(SimKv, ACommitIsDurableAndALazyOneOnceSynced) {
  const std::uint64_t seed = announce_seed();
  std::set<std::size_t> left;
  for (unsigned run = 0; run < 200; ++run) {
    SimMachine machine(seed + run);
    {
      SimRing ring(machine);
      ASSERT_TRUE(put_one(*open_env(ring), "k0", "durable"));
      make_names_durable(ring);
      const auto lazy = open_env(ring, true);
      ASSERT_TRUE(put_one(*lazy, "k1", "synced"));
      ASSERT_TRUE(lazy->sync());
      for (const char* key : {"k2", "k3", "k4"}) ASSERT_TRUE(put_one(*lazy, key, "lazy"));
    }
    {
      SimRing ring(machine);
      ASSERT_EQ(content_of(*open_env(ring)).size(), 5U);  // The process ended, that is all.
    }
    machine.power_loss();
    SimRing ring(machine);
    const Model content = content_of(*open_env(ring));
    ASSERT_TRUE(content.contains("k1"));
    for (std::size_t i = 0; i < content.size(); ++i) {
      ASSERT_TRUE(content.contains("k" + std::to_string(i)));  // Some commit, never a mixture.
    }
    left.insert(content.size());
  }
  EXPECT_EQ(left, (std::set<std::size_t>{2, 3, 4, 5}));
}

TEST(SimKv, AnEnvironmentWhoseNameIsNotDurableMayBeLost) {
  const std::uint64_t seed = announce_seed();
  int lost = 0;
  for (unsigned run = 0; run < 100; ++run) {
    SimMachine machine(seed + run);
    {
      SimRing ring(machine);
      ASSERT_TRUE(put_one(*open_env(ring), "k", "v"));
    }
    machine.power_loss();
    SimRing ring(machine);
    KvOptions options;
    options.create = false;
    const auto kv = ring.open_kv("/env", options);
    if (!kv) {
      ASSERT_EQ(kv.error().code, Errc::kNotFound);
      ++lost;
    }
  }
  EXPECT_GT(lost, 0);
  EXPECT_LT(lost, 100);
}

TEST(SimKv, RemovedOrDamagedEnvironmentsSaySo) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  ASSERT_TRUE(put_one(*open_env(ring), "k", "v"));
  ASSERT_EQ(ring.block_on(ring.list("/env")).value(),
            (std::vector<std::string>{"data.mdb", "lock.mdb"}));
  ASSERT_TRUE(machine.corrupt_kv("/env"));
  EXPECT_EQ(ring.open_kv("/env", {}).error().code, Errc::kCorrupt);
  ASSERT_TRUE(ring.block_on(ring.remove_tree("/env")));
  KvOptions options;
  options.create = false;
  EXPECT_EQ(ring.open_kv("/env", options).error().code, Errc::kNotFound);
  EXPECT_TRUE(content_of(*open_env(ring)).empty());
  EXPECT_FALSE(machine.corrupt_kv("/elsewhere"));
}

TEST(SimKv, AFailedCommitChangesNothing) {
  SimMachine machine(announce_seed());
  machine.add_device("/env", 64_KiB);
  SimRing ring(machine);
  const auto kv = open_env(ring);
  ASSERT_TRUE(put_one(*kv, "k", "v"));
  const Model before = content_of(*kv);
  EXPECT_EQ(put_one(*kv, "big", std::string(128_KiB, 'x')).error().code, Errc::kNoSpace);
  SimFaults faults;
  faults.write_error = 1;
  machine.set_faults("/env", faults);
  EXPECT_EQ(put_one(*kv, "k", "w").error().code, Errc::kIo);
  faults = {};
  faults.read_only = true;
  machine.set_faults("/env", faults);
  EXPECT_EQ(put_one(*kv, "k", "w").error().code, Errc::kReadOnly);
  faults = {};
  faults.gone = true;
  machine.set_faults("/env", faults);
  EXPECT_EQ(put_one(*kv, "k", "w").error().code, Errc::kIo);
  EXPECT_EQ(kv->sync().error().code, Errc::kIo);
  machine.clear_faults();
  EXPECT_EQ(content_of(*kv), before);
  EXPECT_EQ(put_one(*kv, "", "v").error().code, Errc::kInvalid);
  EXPECT_EQ(put_one(*kv, std::string(512, 'k'), "v").error().code, Errc::kInvalid);
}

TEST(SimKv, AHungDeviceKeepsTheWorkerWaiting) {
  SimMachine machine(announce_seed());
  SimRing ring(machine);
  const auto kv = open_env(ring);
  SimFaults faults;
  faults.hung_until = ring.now() + std::chrono::seconds(30);
  machine.set_faults("/env", faults);
  Kv* env = kv.get();
  const auto commit = [env] { return put_one(*env, "k", "v"); };
  EXPECT_TRUE(ring.block_on(ring.blocking(commit)));
  EXPECT_GE(ring.now(), faults.hung_until);
}

}  // namespace
}  // namespace clouddisk
