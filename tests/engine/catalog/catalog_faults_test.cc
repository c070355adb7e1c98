// Copies that fail or stall in the middle of a change.
#include "engine/catalog/catalog_store.h"
#include "tests/engine/catalog/catalog_fixture.h"
#include "tests/engine/catalog/faulty_kv_ring.h"

namespace clouddisk {
namespace {

class CatalogFaults : public ::testing::Test {
 protected:
  CatalogFaults() : machine_(std::make_unique<Machine>(root_.path())) {
    ring_ = std::make_unique<FaultyKvRing>(*machine_->ring, faults_);
    CatalogStore::Options options;
    options.stall_max = std::chrono::milliseconds(200);
    auto store = ring_->block_on(CatalogStore::open(*ring_, *machine_->replicas, options));
    CHECK(store.has_value());
    store_ = std::move(*store);
    CHECK(commit("disk/d-1", "{\"v\":1}").has_value());
  }

  Result<void> commit(const std::string& key, std::optional<std::string> json) {
    CatalogStore::Change change;
    change[key] = std::move(json);
    return ring_->block_on(store_->commit(std::move(change)));
  }
  void fail_next(std::initializer_list<unsigned> replicas, Errc code) {
    for (const unsigned replica : replicas) {
      faults_[replica].code = code;
      faults_[replica].failures = 1;
    }
  }
  ReplicaMask in_sync() const { return machine_->replicas->in_sync_mask(); }
  CatalogStore::Records after_restart() {
    store_.reset();
    ring_.reset();
    machine_.reset();
    Machine machine(root_.path());
    auto store = machine.ring->block_on(CatalogStore::open(*machine.ring, *machine.replicas, {}));
    CHECK(store.has_value());
    return (*store)->records();
  }

  const CatalogStore::Records before_ = {{"disk/d-1", "{\"v\":1}"}};
  TempDirectory root_;
  KvFaults faults_;
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<FaultyKvRing> ring_;
  std::unique_ptr<CatalogStore> store_;
};

// I5.
TEST_F(CatalogFaults, ACopyThatFailsIsOutBeforeTheChangeCounts) {
  fail_next({1}, Errc::kIo);
  ASSERT_TRUE(commit("disk/d-2", "{}"));
  EXPECT_EQ(in_sync(), 0b101U);
  EXPECT_EQ(after_restart().size(), 2U);
}

// I6, I9: what was refused is nowhere, also where it had been written.
TEST_F(CatalogFaults, AChangeOnTooFewCopiesIsTakenBack) {
  fail_next({0, 2}, Errc::kIo);
  const auto refused = commit("disk/d-1", "{\"v\":2}");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kReplicasLost);
  EXPECT_EQ(store_->records(), before_);
  EXPECT_EQ(after_restart(), before_);
}

TEST_F(CatalogFaults, NoRoomOnTooManyCopiesChangesNothingAndDropsNobody) {
  fail_next({0, 1, 2}, Errc::kNoSpace);
  auto refused = commit("disk/d-2", "{}");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);
  fail_next({1, 2}, Errc::kNoSpace);
  refused = commit("disk/d-1", std::nullopt);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);
  EXPECT_EQ(in_sync(), 0b111U);
  EXPECT_EQ(store_->records(), before_);
  ASSERT_TRUE(commit("disk/d-3", "{}")) << "as soon as there is room";
  EXPECT_EQ(after_restart().size(), 2U);
}

TEST_F(CatalogFaults, OneFullCopyIsOutAndTheChangeCounts) {
  fail_next({0}, Errc::kNoSpace);
  ASSERT_TRUE(commit("disk/d-2", "{}"));
  EXPECT_EQ(in_sync(), 0b110U);
  EXPECT_EQ(after_restart().size(), 2U);
}

TEST_F(CatalogFaults, ACopyThatDoesNotAnswerIsOutAndNobodyWaitsForIt) {
  faults_[2].stall_ms = 1'000;
  const TimePoint began = ring_->now();
  ASSERT_TRUE(commit("disk/d-2", "{}"));
  EXPECT_LT(ring_->now() - began, std::chrono::milliseconds(900));
  EXPECT_EQ(in_sync(), 0b011U);
  ASSERT_TRUE(commit("disk/d-3", "{}"));
  // Its transaction ends on the worker; nothing waits for it, and nothing believes it.
  const auto drain = [](Ring& ring) -> Task<void> {
    co_await ring.sleep_for(std::chrono::milliseconds(1'200));
  };
  ring_->block_on(drain(*ring_));
  EXPECT_EQ(after_restart().size(), 3U);
}

TEST_F(CatalogFaults, ACopyThatAnswersWhileAnotherIsPutOutHasComeTooLate) {
  faults_[0].stall_ms = 600;
  faults_[1].stall_ms = 230;
  ring_->sync_stall_ms = 60;  // of the superblocks that put the first one out
  const auto refused = commit("disk/d-2", "{}");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kReplicasLost);
  EXPECT_EQ(store_->records(), before_);
  const auto drain = [](Ring& ring) -> Task<void> {
    co_await ring.sleep_for(std::chrono::milliseconds(600));
  };
  ring_->block_on(drain(*ring_));
}

TEST_F(CatalogFaults, AChangeThatCouldNotBeTakenBackIsOverwrittenByTheNext) {
  // The copy takes the change, then fails to take it back.
  fail_next({0, 2}, Errc::kNoSpace);
  faults_[1].code = Errc::kIo;
  // Armed from the side, while the first write of the other two is failing.
  faults_[0].stall_ms = 100;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    faults_[1].failures = 1;
  });
  const auto refused = commit("disk/d-1", "{\"v\":2}");
  later.join();
  faults_[0].stall_ms = 0;
  ASSERT_FALSE(refused);
  EXPECT_EQ(store_->records(), before_);
  ASSERT_TRUE(commit("disk/d-2", "{}"));
  auto records = before_;
  records["disk/d-2"] = "{}";
  EXPECT_EQ(store_->records(), records);
  EXPECT_EQ(after_restart(), records);
}

}  // namespace
}  // namespace clouddisk
