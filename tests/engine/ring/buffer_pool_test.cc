#include "engine/ring/buffer_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "engine/ring/sim_ring.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

class BufferPoolTest : public testing::Test {
 protected:
  SimMachine machine_{1};
  SimRing ring_{machine_};
};

TEST_F(BufferPoolTest, BuffersHaveTheSizeAskedForAndAlignedMemoryInsideTheArena) {
  BufferPool pool(ring_, 8_MiB);
  for (const std::size_t size :
       {1UL, 512UL, 4095UL, 4096UL, 4097UL, 65536UL, 2097151UL, 2097152UL}) {
    const Buffer buffer = pool.try_allocate(size);
    ASSERT_TRUE(buffer) << size;
    EXPECT_EQ(buffer.size(), size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % kBlockSize, 0U);
    EXPECT_GE(buffer.data(), pool.arena().data());
    EXPECT_LE(buffer.data() + size, pool.arena().data() + pool.arena().size());
  }
  EXPECT_EQ(pool.used_bytes(), 0U);
}

TEST_F(BufferPoolTest, MemoryOfTheCallersIsUsedAndStaysTheirs) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(BufferPool::kLargest, 4_MiB));
  ASSERT_NE(memory, nullptr);
  {
    BufferPool pool(ring_, std::span(memory, 4_MiB));
    EXPECT_EQ(pool.capacity_bytes(), 4_MiB);
    const Buffer buffer = pool.try_allocate(4096);
    EXPECT_GE(buffer.data(), memory);
    EXPECT_LT(buffer.data(), memory + 4_MiB);
    std::memset(memory, 0, 4_MiB);
    std::memset(buffer.data(), 7, buffer.size());
  }
  EXPECT_EQ(std::count(memory, memory + 4_MiB, std::byte{7}), 4096);
  std::free(memory);
}

TEST_F(BufferPoolTest, CapacityIsRoundedUpAndIsTheBound) {
  BufferPool pool(ring_, 3_MiB);
  EXPECT_EQ(pool.capacity_bytes(), 4_MiB);
  const Buffer one = pool.try_allocate(2_MiB);
  const Buffer two = pool.try_allocate(2_MiB);
  ASSERT_TRUE(one && two);
  EXPECT_FALSE(pool.try_allocate(1));
  EXPECT_EQ(pool.used_bytes(), 4_MiB);
}

TEST_F(BufferPoolTest, CopiesAndSlicesKeepTheMemory) {
  BufferPool pool(ring_, 2_MiB);
  Buffer slice;
  {
    const Buffer whole = pool.try_allocate(10'000);
    std::memset(whole.data(), 7, whole.size());
    const Buffer copy = whole;
    EXPECT_EQ(copy.data(), whole.data());
    slice = copy.slice(4'000, 100).slice(50, 50);
  }
  EXPECT_EQ(slice.size(), 50U);
  EXPECT_EQ(pool.used_bytes(), 16_KiB) << "pieces are powers of two";
  for (const std::byte b : slice.span()) EXPECT_EQ(b, std::byte{7});
  slice = Buffer();
  EXPECT_EQ(pool.used_bytes(), 0U);
}

TEST_F(BufferPoolTest, AMovedBufferIsEmptyAndSelfAssignmentIsHarmless) {
  BufferPool pool(ring_, 2_MiB);
  Buffer one = pool.try_allocate(100);
  Buffer two = std::move(one);
  EXPECT_FALSE(one);  // NOLINT(bugprone-use-after-move): that is the question.
  EXPECT_EQ(one.size(), 0U);
  const Buffer& same = two;
  two = same;
  EXPECT_EQ(two.size(), 100U);
  EXPECT_EQ(pool.used_bytes(), 4_KiB);
}

using BufferPoolDeathTest = BufferPoolTest;
TEST_F(BufferPoolDeathTest, MisuseStopsTheProcess) {
  BufferPool pool(ring_, 2_MiB);
  const Buffer buffer = pool.try_allocate(100);
  EXPECT_DEATH(static_cast<void>(buffer.slice(50, 51)), "CHECK failed");
  EXPECT_DEATH(static_cast<void>(buffer.slice(101, 0)), "CHECK failed");
  EXPECT_DEATH(static_cast<void>(buffer.slice(1, SIZE_MAX)), "CHECK failed");
  EXPECT_DEATH(static_cast<void>(pool.try_allocate(0)), "CHECK failed");
  EXPECT_DEATH(static_cast<void>(pool.try_allocate(2_MiB + 1)), "CHECK failed");
}

// Random allocations, copies and releases: pieces never overlap, keep their content, the account is
// right, and with all of them back the arena is whole again.
TEST_F(BufferPoolTest, ModelPiecesNeverOverlapAndMergeBack) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  BufferPool pool(ring_, 8_MiB);
  struct Held {
    std::vector<Buffer> copies;
    std::byte fill;
  };
  std::map<std::byte*, Held> model;
  const auto check_content = [](const Held& held) {
    const auto bytes = held.copies.front().span();
    return bytes.front() == held.fill && bytes.back() == held.fill;
  };
  int refused = 0;
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t dice = random.below(10);
    if (dice < 5) {
      const std::size_t size = random.between(1, 1ULL << random.between(0, 21));
      Buffer buffer = pool.try_allocate(size);
      if (!buffer) {
        ++refused;
        continue;
      }
      auto next = model.lower_bound(buffer.data());
      if (next != model.end()) {
        ASSERT_LE(buffer.data() + size, next->first) << "step " << step;
      }
      if (next != model.begin()) {
        const auto& before = *std::prev(next);
        ASSERT_LE(before.first + before.second.copies.front().size(), buffer.data());
      }
      const auto fill = static_cast<std::byte>(random.next());
      std::memset(buffer.data(), static_cast<int>(fill), size);
      std::byte* where = buffer.data();
      Held held;
      held.copies.push_back(std::move(buffer));
      held.fill = fill;
      ASSERT_TRUE(model.emplace(where, std::move(held)).second) << "step " << step;
    } else if (!model.empty()) {
      auto it = std::next(model.begin(), static_cast<std::ptrdiff_t>(random.below(model.size())));
      ASSERT_TRUE(check_content(it->second)) << "step " << step;
      if (dice < 7) {
        it->second.copies.push_back(it->second.copies.front());
      } else {
        it->second.copies.pop_back();
        if (it->second.copies.empty()) model.erase(it);
      }
    }
    std::size_t used = 0;
    for (const auto& [where, held] : model) {
      used += std::bit_ceil(align_up(held.copies.front().size(), kBlockSize));
    }
    ASSERT_EQ(pool.used_bytes(), used) << "step " << step;
  }
  EXPECT_GT(refused, 0) << "the pool was never full";
  model.clear();
  EXPECT_EQ(pool.used_bytes(), 0U);
  std::vector<Buffer> largest;
  for (int i = 0; i < 4; ++i) largest.push_back(pool.try_allocate(2_MiB));
  for (const Buffer& buffer : largest) EXPECT_TRUE(buffer);
}

Task<void> hold_buffer(Ring& ring, BufferPool& pool, std::size_t size, int ms,
                       std::vector<int>& order, int id) {
  const Buffer buffer = co_await pool.allocate(size);
  EXPECT_EQ(buffer.size(), size);
  order.push_back(id);
  co_await ring.sleep_for(std::chrono::milliseconds(ms));
}

TEST_F(BufferPoolTest, AFullPoolMakesCallersWaitInTheirOrder) {
  BufferPool pool(ring_, 2_MiB);
  std::vector<int> order;
  spawn(hold_buffer(ring_, pool, 1_MiB, 10, order, 0));
  spawn(hold_buffer(ring_, pool, 2_MiB, 10, order, 1));  // Waits for 0,
  spawn(hold_buffer(ring_, pool, 4_KiB, 10, order, 2));  // and is not overtaken.
  ring_.run_for(std::chrono::milliseconds(5));
  EXPECT_EQ(order, std::vector<int>{0});
  ring_.run_for(std::chrono::milliseconds(100));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(pool.used_bytes(), 0U);
}

TEST_F(BufferPoolTest, ManyWaitersAllGetTheirTurn) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  BufferPool pool(ring_, 2_MiB);
  std::vector<int> order;
  for (int id = 0; id < 300; ++id) {
    spawn(hold_buffer(ring_, pool, random.between(1, 2_MiB), static_cast<int>(random.below(3)),
                      order, id));
  }
  ring_.run_for(std::chrono::seconds(2));
  ASSERT_EQ(order.size(), 300U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(pool.used_bytes(), 0U);
}

TEST_F(BufferPoolTest, LockingKeepsWhatIsPossibleAndStaysUsable) {
  BufferPool pool(ring_, 2_MiB);
  pool.lock_memory();
  const Buffer buffer = pool.try_allocate(2_MiB);
  ASSERT_TRUE(buffer);
  std::memset(buffer.data(), 1, buffer.size());
}

}  // namespace
}  // namespace clouddisk
