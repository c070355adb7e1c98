// The check of a whole root, on roots made by the engine itself: what is sound passes, what a crash
// leaves is a note, and what is wrong is named.
#include "snapshot/root_check.h"

#include <gtest/gtest.h>

#include "engine/catalog/catalog.h"
#include "engine/ring/overlay_ring.h"
#include "engine/ring/uring_ring.h"
#include "snapshot/root_checker.h"
#include "tests/support/ring_ops.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk::snapshot {
namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

class RootCheckTest : public testing::Test {
 protected:
  // Disk d-one with 3 MiB in it, in no instance.
  void SetUp() override {
    auto ring = UringRing::create({});
    ASSERT_OK(ring);
    ring_ = std::move(*ring);
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      options_.folders[i] = fmt::format("{}/replica-{}", root_.path(), i + 1);
    }
    options_.index_root = root_.path() + "/index";
    live([this](ReplicaSet& set, Catalog& catalog) {
      CatalogChange change;
      change.put(disk("d-one"));
      ASSERT_OK(ring_->block_on(catalog.commit(std::move(change))));
      CheckMachine machine(*ring_, set);
      Volume::Options options;
      options.index_root = options_.index_root;
      const StorageState state{"d-one", 1_GiB, nullptr, 0};
      ASSERT_OK(ring_->block_on(Volume::create_storage(machine.environment, options, state)));
      Volume volume(machine.environment, machine.pack_environment, "sl-one", options);
      auto opened = ring_->block_on(volume.open(state));
      ASSERT_OK(opened);
      for (unsigned i = 0; i < 3; ++i) {
        Buffer data = machine.client.try_allocate(1_MiB);
        std::memset(data.data(), static_cast<int>(i + 1), data.size());
        ASSERT_OK(ring_->block_on((*opened)->write(i * 1_MiB, std::move(data), false)));
      }
      opened->reset();
      ASSERT_OK(ring_->block_on(volume.close()));
    });
  }
  // One life of the set and its catalog.
  void live(const std::function<void(ReplicaSet&, Catalog&)>& what) {
    auto set = ring_->block_on(ReplicaSet::open(*ring_, {options_.folders, std::nullopt}));
    ASSERT_OK(set);
    auto catalog = ring_->block_on(Catalog::open(*ring_, **set, {}));
    ASSERT_OK(catalog);
    what(**set, **catalog);
  }
  void put(const DiskRecord& record) {
    live([&](ReplicaSet&, Catalog& catalog) {
      CatalogChange change;
      change.put(record);
      ASSERT_OK(ring_->block_on(catalog.commit(std::move(change))));
    });
  }
  static DiskRecord disk(const std::string& id) {
    DiskRecord record;
    record.id = id;
    record.region = record.zone = "z";
    record.category = "cloud_essd";
    record.level = "PL1";
    record.size_gib = record.visible_gib = 1;
    record.status = DiskStatus::kAvailable;
    record.storage = id;
    return record;
  }
  // "kind subject replica: what"
  Lines check() {
    const TemporaryFolder scratch;
    OverlayRing overlay(*ring_, scratch.path());
    return lines(overlay.block_on(check_root(overlay, options_)));
  }
  Lines repair() {
    RootCheckOptions options = options_;
    options.repair = true;
    auto repaired = ring_->block_on(check_root(*ring_, options));
    failed_.clear();
    if (repaired) {
      for (const auto& [finding, why] : repaired->failed) failed_.push_back(finding.what);
    }
    return lines(std::move(repaired));
  }
  static Lines lines(Result<RootCheck> check) {
    if (!check) return {check.error().message};
    Lines all;
    for (const CheckFinding& one : check->findings) {
      const char* kind = one.kind == CheckFinding::Kind::kNote       ? "note "
                         : one.kind == CheckFinding::Kind::kMendable ? "mendable "
                                                                     : "lost ";
      const std::string replica = one.replica ? fmt::format(" {}", *one.replica) : "";
      all.push_back(kind + one.subject + replica + ": " + one.what);
    }
    return all;
  }
  std::string segment(unsigned replica) const {
    return options_.folders[replica - 1] + "/disks/d-one/segment-0000000000000001";
  }
  void damage(const std::string& path, std::uint64_t offset) {
    OpenOptions how;
    how.direct = false;
    auto file = ring_->block_on(ring_->open(path, how));
    ASSERT_OK(file);
    const std::vector<std::byte> rubbish(64, std::byte{0x5a});
    ASSERT_EQ(write_at(*ring_, *file, offset, rubbish), 64);
  }

  TemporaryFolder root_;
  std::unique_ptr<UringRing> ring_;
  RootCheckOptions options_;
  Lines failed_;
};

TEST_F(RootCheckTest, ASoundRootHasNoFindings) {
  EXPECT_EQ(check(), Lines{});
  EXPECT_EQ(repair(), Lines{});
}

TEST_F(RootCheckTest, DisksThatWereBeingMadeOrRemovedAreNotes) {
  DiskRecord made = disk("d-made");
  made.status = DiskStatus::kCreating;
  put(made);
  DiskRecord removed = disk("d-one");
  removed.status = DiskStatus::kDeleting;
  removed.instance_id = "i-gone";
  put(removed);
  // The crash came in between: on one copy, without an index; on two, of the other.
  fs::create_directories(options_.folders[0] + "/disks/d-made");
  fs::remove_all(options_.folders[1] + "/disks/d-one");
  fs::remove_all(options_.index_root + "/d-one");
  const Lines notes{"note d-made: was being made (a crash): the next start removes it",
                    "note d-one: was being deleted (a crash): the next start removes it"};
  EXPECT_EQ(check(), notes);
}

TEST_F(RootCheckTest, AnAvailableDiskWithoutItsStorageIsALoss) {
  put(disk("d-two"));
  EXPECT_EQ(check(), Lines{"lost d-two: no replica in sync has the storage of d-two"});
}

TEST_F(RootCheckTest, ADiskInAnInstanceThatIsNotThereIsTold) {
  DiskRecord record = disk("d-one");
  record.status = DiskStatus::kInUse;
  record.instance_id = "i-gone";
  put(record);
  EXPECT_EQ(check(), Lines{"lost d-one: is attached to i-gone, which is not in the catalog"});
}

TEST_F(RootCheckTest, ATornSlotOfASuperblockIsANote) {
  damage(options_.folders[1] + "/superblock", 100);
  const Lines found = check();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_TRUE(found[0].starts_with("note superblock 2: slot 0")) << found[0];
}

TEST_F(RootCheckTest, DamageOnOneCopyIsMended) {
  damage(segment(2), 40 * kBlockSize);
  damage(segment(3), 70 * kBlockSize);
  const Lines wanted{"mendable d-one 2: payload is damaged",
                     "mendable d-one 3: payload is damaged"};
  EXPECT_EQ(check(), wanted);
  EXPECT_EQ(check(), wanted) << "a check changes nothing";
  EXPECT_EQ(repair(), wanted);
  EXPECT_EQ(failed_, Lines{});
  EXPECT_EQ(check(), Lines{});
}

TEST_F(RootCheckTest, AMissingReplicaIsMadeAnew) {
  fs::remove_all(options_.folders[2]);
  const Lines found = check();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_TRUE(found[0].starts_with("mendable replica 3: is missing")) << found[0];
  static_cast<void>(repair());
  EXPECT_EQ(check(), Lines{});
  EXPECT_TRUE(fs::exists(segment(3)));
}

TEST_F(RootCheckTest, ABlockThatNoCopyHasIsLostByItsLba) {
  for (unsigned replica = 1; replica <= 3; ++replica) damage(segment(replica), 40 * kBlockSize);
  const Lines found = check();
  ASSERT_EQ(found.size(), 4U);
  EXPECT_EQ(found.back(), "lost d-one: content is lost: no replica has it intact");
}

}  // namespace
}  // namespace clouddisk::snapshot
