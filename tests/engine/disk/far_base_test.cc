// A base that is far away: who waits for it, for how much, and what is held meanwhile.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/engine/disk/disk_fixture.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kSize = 8_MiB;
constexpr std::uint64_t kBaseSize = 4_MiB;  // data in every second block
constexpr std::byte kContent{0x5a};

class FarBase final : public BlockSource {
 public:
  explicit FarBase(Ring& ring) : arrived(ring) {}
  bool far_away() const override { return true; }
  Task<void> travel(std::uint64_t bytes) override {
    travelled.push_back(bytes);
    while (held) co_await arrived.wait();
  }
  std::uint64_t size_bytes() const override { return kBaseSize; }
  Task<Result<void>> read(Ring&, Lba first, std::span<std::byte> into) override {
    for (std::size_t i = 0; i < into.size() / kBlockSize; ++i) {
      const bool data = (first.value + i) % 2 == 0;
      std::memset(into.data() + i * kBlockSize, data ? std::to_integer<int>(kContent) : 0,
                  kBlockSize);
    }
    co_return Result<void>{};
  }
  Task<Result<PagePresence>> present(Ring&, std::uint64_t page) override {
    PagePresence present;
    for (std::size_t i = 0; i < kPageBlocks; i += 2) present[i] = page * kPageBlocks + i < 1024;
    co_return present;
  }
  Result<std::optional<std::uint64_t>> next_page(std::uint64_t page) override {
    if (page * kPageBlocks * kBlockSize >= kBaseSize) return std::optional<std::uint64_t>();
    return std::optional(page);
  }

  std::vector<std::uint64_t> travelled;
  bool held = false;
  Signal arrived;
};

class DiskOverAFarBase : public testing::Test {
 protected:
  void SetUp() override {
    auto ring = UringRing::create({});
    ASSERT_TRUE(ring) << ring.error().message;
    ring_ = std::move(*ring);
    machine_ = std::make_unique<Machine>(*ring_, root_.path());
    base_ = std::make_shared<FarBase>(*ring_);
    Disk::Identity identity = identity_in(root_.path(), kSize);
    identity.base = base_;
    auto made = ring_->block_on(Disk::create(*machine_->environment, identity, {}));
    ASSERT_TRUE(made) << made.error().message;
    auto opened = ring_->block_on(Disk::open(*machine_->environment, identity, {}));
    ASSERT_TRUE(opened) << opened.error().message;
    disk_ = *opened;
  }
  void TearDown() override {
    if (!disk_) return;
    EXPECT_TRUE(ring_->block_on(disk_->close()));
    disk_.reset();
  }
  std::vector<std::byte> read(std::uint64_t offset, std::uint32_t length) {
    auto got = ring_->block_on(disk_->read(offset, length));
    EXPECT_TRUE(got) << got.error().message;
    const auto bytes = got->span();
    return {bytes.begin(), bytes.end()};
  }
  Result<void> write(std::uint64_t offset, std::size_t size, std::byte value) {
    Buffer data = ring_->block_on(machine_->client_buffers.allocate(size));
    std::memset(data.data(), std::to_integer<int>(value), size);
    return ring_->block_on(disk_->write(offset, std::move(data), false));
  }
  std::vector<std::uint64_t> travelled() { return std::exchange(base_->travelled, {}); }
  using Bytes = std::vector<std::uint64_t>;

  TemporaryFolder root_;
  std::unique_ptr<UringRing> ring_;
  std::unique_ptr<Machine> machine_;
  std::shared_ptr<FarBase> base_;
  std::shared_ptr<Disk> disk_;
};

TEST_F(DiskOverAFarBase, IsSlowOnceForWhatItBorrowsAndNeverForWhatItHas) {
  EXPECT_EQ(read(0, 64_KiB)[0], kContent);
  EXPECT_EQ(travelled(), Bytes{32_KiB}) << "holes need no fetch";
  EXPECT_EQ(read(0, 64_KiB)[0], kContent);
  EXPECT_EQ(read(kBlockSize, kBlockSize)[0], std::byte{0});
  EXPECT_EQ(read(kBaseSize, 64_KiB)[0], std::byte{0}) << "behind its end";
  ASSERT_TRUE(write(1_MiB, 8 * kBlockSize, std::byte{1}));
  EXPECT_EQ(read(1_MiB, 8 * kBlockSize)[0], std::byte{1});
  EXPECT_EQ(travelled(), Bytes{}) << "whole blocks are written and read without it";
}

TEST_F(DiskOverAFarBase, PartialWritesHydrationAndPrefetchWaitMomentsDoNot) {
  ASSERT_TRUE(write(512, 512, std::byte{1}));
  EXPECT_EQ(travelled(), Bytes{kBlockSize});
  EXPECT_EQ(read(0, kBlockSize)[0], kContent);
  ASSERT_TRUE(write(2 * kBlockSize + 512, 2 * kBlockSize, std::byte{1}));
  EXPECT_EQ(travelled(), (Bytes{kBlockSize, kBlockSize})) << "first and last block";
  ASSERT_TRUE(ring_->block_on(disk_->trim(6 * kBlockSize + 512, 512, false)));
  EXPECT_EQ(travelled(), Bytes{kBlockSize});

  auto view = ring_->block_on(disk_->freeze());
  ASSERT_TRUE(view);
  std::vector<std::byte> moment(1_MiB);
  ASSERT_TRUE(ring_->block_on(disk_->read_view(*view, Lba(256), moment, machine_->client_buffers)));
  EXPECT_EQ(moment[0], kContent);
  EXPECT_EQ(travelled(), Bytes{}) << "captures read moments";

  EXPECT_TRUE(ring_->block_on(disk_->prefetch(1_MiB, 1_MiB)));
  EXPECT_EQ(travelled(), Bytes{512_KiB}) << "one fetch";
  EXPECT_EQ(*ring_->block_on(disk_->hydrate(1_MiB, 2_MiB)), 512_KiB);
  EXPECT_EQ(travelled(), Bytes{512_KiB}) << "of what is not here yet";
}

Task<void> read_into(Disk& disk, std::uint64_t offset, std::uint32_t length, bool& done) {
  auto got = co_await disk.read(offset, length);
  EXPECT_TRUE(got);
  EXPECT_EQ(got->data()[0], std::byte{9}) << "what was written while it was on its way";
  done = true;
}

TEST_F(DiskOverAFarBase, WhoWaitsHoldsNeitherMemoryNorBlocks) {
  base_->held = true;
  bool done = false;
  spawn(read_into(*disk_, 0, 1_MiB, done));
  while (base_->travelled.empty()) {
    auto turn = [](Ring& ring) -> Task<void> { co_await ring.yield(); };
    ring_->block_on(turn(*ring_));
  }
  EXPECT_EQ(machine_->client_buffers.used_bytes(), 0U);
  EXPECT_EQ(machine_->work_buffers.used_bytes(), 0U);
  ASSERT_TRUE(write(0, kBlockSize, std::byte{9})) << "the same block";
  EXPECT_EQ(read(0, kBlockSize)[0], std::byte{9});
  EXPECT_FALSE(done);
  base_->held = false;
  base_->arrived.wake_all();
  ring_->run_until([&done] { return done; });
}

}  // namespace
}  // namespace clouddisk
