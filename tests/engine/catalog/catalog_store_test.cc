#include "engine/catalog/catalog_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/random.h"
#include "engine/catalog/catalog.h"
#include "tests/engine/catalog/catalog_fixture.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

namespace fs = std::filesystem;

class CatalogStoreTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<CatalogStore>> try_open(Machine& machine) {
    return machine.ring->block_on(CatalogStore::open(*machine.ring, *machine.replicas, {}));
  }
  std::unique_ptr<CatalogStore> open(Machine& machine) {
    auto store = try_open(machine);
    CHECK(store.has_value());
    return std::move(*store);
  }
  Result<void> commit(Machine& machine, CatalogStore& store, CatalogStore::Change change) {
    return machine.ring->block_on(store.commit(std::move(change)));
  }
  fs::path catalog_of(unsigned replica) const {
    return Machine::folder(root_.path(), replica) / "catalog";
  }
  // Overwrites the whole file from its middle on; whatever it is, it is no longer that.
  void corrupt(unsigned replica) {
    for (const auto& entry : fs::directory_iterator(catalog_of(replica))) {
      if (entry.path().filename() != "data.mdb") continue;
      const auto size = fs::file_size(entry.path());
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      const std::string junk(size, '\x5a');
      file.write(junk.data(), static_cast<std::streamsize>(size));
    }
  }

  TempDirectory root_;
};

TEST_F(CatalogStoreTest, NoEmptyCatalogTakesThePlaceOfOnesThatAreLost) {
  {
    Machine machine(root_.path());
    auto store = open(machine);
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{}"}}));
  }
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    fs::rename(catalog_of(i), catalog_of(i).string() + "-aside");
    fs::create_directories(Machine::folder(root_.path(), i) / "disks" / "d-1");
  }
  {
    Machine machine(root_.path());
    auto refused = try_open(machine);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kCorrupt);
    EXPECT_NE(refused.error().message.find("d-1"), std::string::npos);
    EXPECT_FALSE(fs::exists(catalog_of(0)));
  }
  fs::rename(catalog_of(1).string() + "-aside", catalog_of(1));
  Machine machine(root_.path());
  EXPECT_EQ(open(machine)->records().count("disk/d-1"), 1U) << "one copy is enough";
}

TEST_F(CatalogStoreTest, ChangesThatWaitGoTogether) {
  constexpr unsigned kChanges = 200;
  {
    Machine machine(root_.path());
    auto store = open(machine);
    const std::uint64_t before = store->commit_number();
    unsigned finished = 0;
    const auto change = [](CatalogStore& into, unsigned i, unsigned& count) -> Task<void> {
      CatalogStore::Change one = {{"disk/d-" + std::to_string(i), "{}"}};
      const auto committed = co_await into.commit(std::move(one));
      EXPECT_TRUE(committed);
      EXPECT_TRUE(into.records().contains("disk/d-" + std::to_string(i))) << "it is made by then";
      ++count;
    };
    for (unsigned i = 0; i < kChanges; ++i) spawn(change(*store, i, finished));
    machine.ring->run_until([&finished] { return finished == kChanges; });
    EXPECT_LE(store->commit_number(), before + 3);
  }
  Machine machine(root_.path());
  EXPECT_EQ(open(machine)->records().size(), kChanges);
}

TEST_F(CatalogStoreTest, WhatWasCommittedIsThereAfterARestart) {
  {
    Machine machine(root_.path());
    auto store = open(machine);
    EXPECT_TRUE(store->records().empty());
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{\"a\":1}"}, {"disk/d-2", "{}"}}));
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-2", std::nullopt}, {"disk/d-3", "{\"b\":2}"}}));
  }
  Machine machine(root_.path());
  auto store = open(machine);
  const CatalogStore::Records expected = {{"disk/d-1", "{\"a\":1}"}, {"disk/d-3", "{\"b\":2}"}};
  EXPECT_EQ(store->records(), expected);
  EXPECT_EQ(store->commit_number(), 3U);
}

// I8: any one folder's copy may go.
TEST_F(CatalogStoreTest, ALostCopyIsMadeAnewFromTheOthers) {
  for (unsigned lost = 0; lost < kReplicaCount; ++lost) {
    const std::string key = "disk/d-" + std::to_string(lost);
    {
      Machine machine(root_.path());
      auto store = open(machine);
      ASSERT_TRUE(commit(machine, *store, {{key, "{}"}}));
    }
    fs::remove_all(catalog_of(lost));
    {
      Machine machine(root_.path());
      auto store = open(machine);
      EXPECT_EQ(store->records().size(), lost + 1U);
      EXPECT_TRUE(fs::exists(catalog_of(lost)));
    }
    // The new copy is as good as the others: it can be the only one left.
    for (unsigned other = 0; other < kReplicaCount; ++other) {
      if (other != lost) fs::remove_all(catalog_of(other));
    }
    Machine machine(root_.path());
    EXPECT_EQ(open(machine)->records().size(), lost + 1U);
  }
}

TEST_F(CatalogStoreTest, ACorruptCopyIsReplacedAndNothingIsLost) {
  {
    Machine machine(root_.path());
    auto store = open(machine);
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{}"}}));
  }
  corrupt(1);
  {
    Machine machine(root_.path());
    auto store = open(machine);
    EXPECT_EQ(store->records().size(), 1U);
  }
  fs::remove_all(catalog_of(0));
  fs::remove_all(catalog_of(2));
  Machine machine(root_.path());
  EXPECT_EQ(open(machine)->records().size(), 1U) << "the replaced copy is whole";
}

// Whatever bytes rot in one copy, the others answer for it.
TEST_F(CatalogStoreTest, FlippedBytesAnywhereInOneCopyLoseNothing) {
  Random random(announce_seed());
  CatalogStore::Records expected;
  for (int round = 0; round < 40; ++round) {
    {
      Machine machine(root_.path());
      auto store = open(machine);
      ASSERT_EQ(store->records(), expected) << "round " << round;
      const std::string key = "disk/d-" + std::to_string(random.below(30));
      const std::string json = "{\"x\":\"" + std::string(random.below(3'000), 'y') + "\"}";
      ASSERT_TRUE(commit(machine, *store, {{key, json}}));
      expected[key] = json;
    }
    const auto victim = static_cast<unsigned>(random.below(kReplicaCount));
    const fs::path path = catalog_of(victim) / "data.mdb";
    const auto size = fs::file_size(path);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (std::uint64_t n = random.between(1, 30); n > 0; --n) {
      const auto at = static_cast<std::streamoff>(random.below(size));
      file.seekg(at);
      const char byte = static_cast<char>(file.get() ^ static_cast<int>(1U << random.below(8)));
      file.seekp(at);
      file.put(byte);
    }
  }
}

TEST_F(CatalogStoreTest, WithNoGoodCopyItRefusesRatherThanStartEmpty) {
  {
    Machine machine(root_.path());
    auto store = open(machine);
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{}"}}));
  }
  fs::remove_all(catalog_of(0));
  corrupt(1);
  corrupt(2);
  Machine machine(root_.path());
  const auto store = try_open(machine);
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().message.find("no copy"), std::string::npos) << store.error().message;
}

// A crash between two copies' transactions.
TEST_F(CatalogStoreTest, TheNewestCopyWinsAndTheOthersFollow) {
  const fs::path aside = root_.path() / "aside";
  {
    Machine machine(root_.path());
    auto store = open(machine);
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{}"}}));
  }
  fs::copy(catalog_of(0), aside, fs::copy_options::recursive);
  {
    Machine machine(root_.path());
    auto store = open(machine);
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-2", "{}"}}));
  }
  for (const unsigned stale : {0U, 2U}) {
    fs::remove_all(catalog_of(stale));
    fs::copy(aside, catalog_of(stale), fs::copy_options::recursive);
  }
  {
    Machine machine(root_.path());
    EXPECT_EQ(open(machine)->records().size(), 2U);
  }
  fs::remove_all(catalog_of(1));
  Machine machine(root_.path());
  EXPECT_EQ(open(machine)->records().size(), 2U);
}

TEST_F(CatalogStoreTest, ACopyOfAnotherSetIsNotBelieved) {
  TempDirectory other_root;
  {
    Machine machine(other_root.path());
    auto store = open(machine);
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(commit(machine, *store, {{"disk/d-x" + std::to_string(i), "{}"}}));
    }
  }
  {
    Machine machine(root_.path());
    auto store = open(machine);
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{}"}}));
  }
  fs::remove_all(catalog_of(2));
  fs::copy(Machine::folder(other_root.path(), 2) / "catalog", catalog_of(2),
           fs::copy_options::recursive);
  Machine machine(root_.path());
  EXPECT_TRUE(open(machine)->records().contains("disk/d-1"));
}

// I6.
TEST_F(CatalogStoreTest, WithOneReplicaInSyncItIsReadAndNotChanged) {
  Machine machine(root_.path());
  auto store = open(machine);
  ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{}"}}));
  auto& ring = *machine.ring;
  ASSERT_TRUE(ring.block_on(machine.replicas->drop(ring, 0, "test")));
  ASSERT_TRUE(commit(machine, *store, {{"disk/d-2", "{}"}}));
  static_cast<void>(ring.block_on(machine.replicas->drop(ring, 1, "test")));
  const auto refused = commit(machine, *store, {{"disk/d-3", "{}"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kReplicasLost);
  EXPECT_EQ(store->records().size(), 2U);
}

// I5: the replica that was away does not bring its old catalog back.
TEST_F(CatalogStoreTest, AReplicaThatWasOutGetsAWholeCopyWhenItReturns) {
  {
    Machine machine(root_.path());
    auto store = open(machine);
    auto& ring = *machine.ring;
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{}"}}));
    ASSERT_TRUE(ring.block_on(machine.replicas->drop(ring, 2, "test")));
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-2", "{}"}}));
    ASSERT_TRUE(machine.replicas->begin_receiving(2));
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-3", "{}"}})) << "before the copy";
    ASSERT_TRUE(ring.block_on(store->copy_to(2)));
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-4", "{}"}})) << "after the copy";
    ASSERT_TRUE(ring.block_on(machine.replicas->admit(2)));
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-5", "{}"}}));
  }
  fs::remove_all(catalog_of(0));
  fs::remove_all(catalog_of(1));
  Machine machine(root_.path());
  EXPECT_EQ(open(machine)->records().size(), 5U);
}

TEST_F(CatalogStoreTest, AMemberAdmittedWithoutACopyGetsOneWithTheNextChange) {
  {
    Machine machine(root_.path());
    auto store = open(machine);
    auto& ring = *machine.ring;
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-1", "{}"}}));
    ASSERT_TRUE(ring.block_on(machine.replicas->drop(ring, 1, "test")));
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-2", "{}"}}));
    ASSERT_TRUE(machine.replicas->begin_receiving(1));
    ASSERT_TRUE(ring.block_on(machine.replicas->admit(1)));
    ASSERT_TRUE(commit(machine, *store, {{"disk/d-3", "{}"}}));
  }
  fs::remove_all(catalog_of(0));
  fs::remove_all(catalog_of(2));
  Machine machine(root_.path());
  EXPECT_EQ(open(machine)->records().size(), 3U);
}

TEST_F(CatalogStoreTest, RecordsOfAKindUnknownHereAreKept) {
  {
    Machine machine(root_.path());
    auto store = open(machine);
    ASSERT_TRUE(commit(machine, *store, {{"later/x-1", "{\"x\":1}"}}));
  }
  {
    Machine machine(root_.path());
    auto catalog = machine.ring->block_on(Catalog::open(*machine.ring, *machine.replicas, {}));
    ASSERT_TRUE(catalog);
    DiskRecord disk;
    disk.id = "d-1";
    CatalogChange change;
    change.put(disk);
    ASSERT_TRUE(machine.ring->block_on((*catalog)->commit(std::move(change))));
  }
  Machine machine(root_.path());
  EXPECT_EQ(open(machine)->records().at("later/x-1"), "{\"x\":1}");
}

TEST_F(CatalogStoreTest, SnapshotsChainsAndGroupsAreFoundAfterARestartAndGoWhenErased) {
  const auto snapshot = [](const char* id, const char* disk_id, std::uint64_t seq) {
    SnapshotRecord one;
    one.id = id;
    one.disk_id = disk_id;
    one.seq = seq;
    return one;
  };
  // By id the later one comes first.
  const SnapshotRecord later = snapshot("s-a", "d-1", 2);
  const SnapshotRecord earlier = snapshot("s-b", "d-1", 1);
  const SnapshotRecord foreign = snapshot("s-c", "d-2", 1);
  ChainRecord chain;
  chain.id = "sl-1";
  GroupRecord group;
  group.id = "ssg-1";
  {
    Machine machine(root_.path());
    auto catalog = machine.ring->block_on(Catalog::open(*machine.ring, *machine.replicas, {}));
    ASSERT_TRUE(catalog);
    CatalogChange change;
    change.put(later);
    change.put(earlier);
    change.put(foreign);
    change.put(chain);
    change.put(group);
    ASSERT_TRUE(machine.ring->block_on((*catalog)->commit(std::move(change))));
  }
  Machine machine(root_.path());
  auto opened = machine.ring->block_on(Catalog::open(*machine.ring, *machine.replicas, {}));
  ASSERT_TRUE(opened);
  Catalog& catalog = **opened;
  ASSERT_NE(catalog.find_chain("sl-1"), nullptr);
  ASSERT_NE(catalog.find_group("ssg-1"), nullptr);
  const auto of_disk = catalog.snapshots_of_disk("d-1");
  ASSERT_EQ(of_disk.size(), 2U);
  EXPECT_EQ(*of_disk[0], earlier);
  EXPECT_EQ(*of_disk[1], later);

  CatalogChange change;
  change.erase(later);
  change.erase(chain);
  change.erase(group);
  ASSERT_TRUE(machine.ring->block_on(catalog.commit(std::move(change))));
  EXPECT_EQ(catalog.find_snapshot("s-a"), nullptr);
  EXPECT_NE(catalog.find_snapshot("s-b"), nullptr);
  EXPECT_EQ(catalog.find_chain("sl-1"), nullptr);
  EXPECT_EQ(catalog.find_group("ssg-1"), nullptr);
}

// Random changes, restarts, lost, stale and returning copies against a plain map.
TEST_F(CatalogStoreTest, ModelOfChangesRestartsAndLosses) {
  Random random(announce_seed());
  CatalogStore::Records model;
  for (int life = 0; life < 12; ++life) {
    Machine machine(root_.path());
    auto& ring = *machine.ring;
    ReplicaSet& replicas = *machine.replicas;
    auto store = open(machine);
    ASSERT_EQ(store->records(), model) << "life " << life;
    for (unsigned i = 0; i < kReplicaCount; ++i) {  // What the last life dropped is resynced.
      if ((replicas.in_sync_mask() >> i & 1U) != 0) continue;
      ASSERT_TRUE(replicas.begin_receiving(i));
      ASSERT_TRUE(ring.block_on(store->copy_to(i)));
      ASSERT_TRUE(ring.block_on(replicas.admit(i)));
    }
    for (std::uint64_t step = 0; step < random.between(1, 12); ++step) {
      CatalogStore::Change change;
      for (std::uint64_t n = random.between(1, 4); n > 0; --n) {
        const std::string key = "disk/d-" + std::to_string(random.below(8));
        change[key] =
            random.one_in(3) ? std::nullopt : std::optional("{\"v\":" + std::to_string(step) + "}");
      }
      ASSERT_TRUE(commit(machine, *store, change));
      for (const auto& [key, json] : change) {
        if (json) {
          model[key] = *json;
        } else {
          model.erase(key);
        }
      }
      ASSERT_EQ(store->records(), model);
      if (random.one_in(6) && __builtin_popcount(replicas.in_sync_mask()) == 3) {
        const auto victim = static_cast<unsigned>(random.below(kReplicaCount));
        ASSERT_TRUE(ring.block_on(replicas.drop(ring, victim, "test")));
      }
    }
    const ReplicaMask members = replicas.in_sync_mask();
    store.reset();
    const auto victim = static_cast<unsigned>(random.below(kReplicaCount));
    const bool spare = __builtin_popcount(members & ~(1U << victim)) >= 1;
    if (spare && random.one_in(2)) fs::remove_all(catalog_of(victim));
    if (spare && random.one_in(3) && fs::exists(catalog_of(victim))) corrupt(victim);
  }
}

}  // namespace
}  // namespace clouddisk
