// What is changed through an overlay shows there, and only there.
#include "engine/ring/overlay_ring.h"

#include <gtest/gtest.h>

#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "engine/ring/sim_ring.h"
#include "engine/ring/uring_ring.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk {
namespace {

using Names = std::vector<std::string>;

class OverlayRingTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(below_.block_on(below_.make_directories("/root/folder")));
    put(below_, "/root/folder/old", 3, 7);
  }
  static File open(Ring& ring, const std::string& path) {
    OpenOptions how;
    how.create = true;
    how.direct = false;
    auto file = ring.block_on(ring.open(path, how));
    EXPECT_OK(file);
    return file ? *std::move(file) : File();
  }
  // A file of so many blocks of one value.
  static void put(Ring& ring, const std::string& path, std::size_t blocks, unsigned value) {
    const AlignedBytes bytes(blocks * kBlockSize, static_cast<std::byte>(value));
    const File file = open(ring, path);
    ASSERT_EQ(write_at(ring, file, 0, bytes.span()), static_cast<int>(bytes.size()));
  }
  static std::vector<std::byte> content(Ring& ring, const std::string& path) {
    std::vector<std::byte> bytes(64 * kBlockSize);
    OpenOptions how;
    how.access = Access::kRead;
    how.direct = false;
    auto file = ring.block_on(ring.open(path, how));
    if (!file) return {};
    const int got = read_at(ring, *file, 0, bytes);
    EXPECT_GE(got, 0);
    bytes.resize(static_cast<std::size_t>(std::max(got, 0)));
    return bytes;
  }
  static std::vector<std::byte> blocks(std::size_t count, unsigned value) {
    return std::vector<std::byte>(count * kBlockSize, static_cast<std::byte>(value));
  }
  Result<Names> list(Ring& ring, const std::string& path) { return ring.block_on(ring.list(path)); }

  SimMachine machine_{1};
  SimRing below_{machine_};
  OverlayRing overlay_{below_, "/scratch"};
};

TEST_F(OverlayRingTest, WhatIsWrittenShowsAboveAndNotBelow) {
  const File file = open(overlay_, "/root/folder/old");
  const AlignedBytes block(kBlockSize, std::byte{9});
  ASSERT_EQ(write_at(overlay_, file, kBlockSize, block.span()), static_cast<int>(kBlockSize));
  ASSERT_EQ(write_at(overlay_, file, 5 * kBlockSize, block.span()), static_cast<int>(kBlockSize));
  auto wanted = blocks(1, 7);
  for (const unsigned value : {9U, 7U, 0U, 0U, 9U}) {
    const auto more = blocks(1, value);
    wanted.insert(wanted.end(), more.begin(), more.end());
  }
  EXPECT_EQ(content(overlay_, "/root/folder/old"), wanted);
  EXPECT_EQ(content(below_, "/root/folder/old"), blocks(3, 7));
}

TEST_F(OverlayRingTest, ReadsMayBeginAndEndAnywhere) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::vector<std::byte> model = blocks(3, 7);
  model.resize(16 * kBlockSize);
  const File file = open(overlay_, "/root/folder/old");
  ASSERT_EQ(allocate(overlay_, file, 0, model.size()), 0);
  for (int i = 0; i < 300; ++i) {
    const AlignedBytes block(kBlockSize, random);
    const std::uint64_t at = random.below(16) * kBlockSize;
    ASSERT_EQ(write_at(overlay_, file, at, block.span()), static_cast<int>(kBlockSize));
    std::copy_n(block.data(), kBlockSize, model.begin() + static_cast<std::ptrdiff_t>(at));
    const std::uint64_t from = random.below(model.size());
    std::vector<std::byte> read(1 + random.below(3 * kBlockSize));
    const std::size_t there = std::min(read.size(), model.size() - from);
    ASSERT_EQ(read_at(overlay_, file, from, read), static_cast<int>(there));
    ASSERT_TRUE(std::equal(read.begin(), read.begin() + static_cast<std::ptrdiff_t>(there),
                           model.begin() + static_cast<std::ptrdiff_t>(from)))
        << from << "+" << read.size();
  }
}

TEST_F(OverlayRingTest, NamesThatAreMadeMovedAndRemovedShowAboveAlone) {
  ASSERT_OK(overlay_.block_on(overlay_.make_directories("/root/new/deep")));
  put(overlay_, "/root/new/deep/file", 1, 5);
  ASSERT_OK(overlay_.block_on(overlay_.rename("/root/folder/old", "/root/new/moved")));
  EXPECT_EQ(content(overlay_, "/root/new/moved"), blocks(3, 7));
  EXPECT_EQ(*list(overlay_, "/root"), (Names{"folder", "new"}));
  EXPECT_EQ(*list(overlay_, "/root/new"), (Names{"deep", "moved"}));
  EXPECT_EQ(*list(overlay_, "/root/folder"), Names{});
  EXPECT_EQ(list(overlay_, "/root/none").error().code, Errc::kNotFound);
  EXPECT_EQ(overlay_.block_on(overlay_.stat("/root/folder/old")).error().code, Errc::kNotFound);
  ASSERT_OK(overlay_.block_on(overlay_.remove_tree("/root/new")));
  EXPECT_EQ(*list(overlay_, "/root"), Names{"folder"});
  EXPECT_EQ(*list(below_, "/root"), Names{"folder"});
  EXPECT_EQ(content(below_, "/root/folder/old"), blocks(3, 7));
}

TEST_F(OverlayRingTest, AFolderWithSomethingInItIsNotRemovedAsAFileIs) {
  EXPECT_FALSE(overlay_.block_on(overlay_.remove("/root/folder")));
  EXPECT_EQ(*list(overlay_, "/root/folder"), Names{"old"});
  ASSERT_OK(overlay_.block_on(overlay_.remove("/root/folder/old")));
  ASSERT_OK(overlay_.block_on(overlay_.remove("/root/folder")));
  EXPECT_EQ(*list(overlay_, "/root"), Names{});
  EXPECT_EQ(content(below_, "/root/folder/old"), blocks(3, 7));
}

TEST_F(OverlayRingTest, WhatWasRemovedAndMadeAgainHasNothingOfBefore) {
  ASSERT_OK(overlay_.block_on(overlay_.remove("/root/folder/old")));
  put(overlay_, "/root/folder/old", 1, 5);
  EXPECT_EQ(content(overlay_, "/root/folder/old"), blocks(1, 5));
  ASSERT_OK(overlay_.block_on(overlay_.remove_tree("/root/folder")));
  ASSERT_OK(overlay_.block_on(overlay_.make_directories("/root/folder")));
  EXPECT_EQ(*list(overlay_, "/root/folder"), Names{});
  EXPECT_EQ(content(below_, "/root/folder/old"), blocks(3, 7));
}

TEST(OverlayRingKv, AnEnvironmentIsUsedAsACopy) {
  const TemporaryFolder folder;
  const TemporaryFolder scratch;
  auto below = UringRing::create({});
  ASSERT_OK(below);
  const auto put = [](Ring& ring, const std::string& where, unsigned value) {
    auto kv = ring.open_kv(where, {});
    ASSERT_OK(kv);
    auto writer = (*kv)->write();
    ASSERT_OK(writer);
    const std::vector<std::byte> bytes(10, static_cast<std::byte>(value));
    ASSERT_OK((*writer)->put(as_bytes(std::string_view("key")), bytes));
    ASSERT_OK((*writer)->commit());
  };
  const auto get = [](Ring& ring, const std::string& where) {
    KvOptions options;
    options.create = false;
    auto kv = ring.open_kv(where, options);
    if (!kv) return std::byte{0};
    auto reader = (*kv)->read();
    EXPECT_OK(reader);
    auto value = (*reader)->get(as_bytes(std::string_view("key")));
    EXPECT_OK(value);
    return value && *value ? (**value)[0] : std::byte{0};
  };
  const std::string where = folder.path() + "/index";
  std::filesystem::create_directories(where);
  put(**below, where, 1);
  OverlayRing overlay(**below, scratch.path());
  put(overlay, where, 2);
  EXPECT_EQ(get(overlay, where), std::byte{2}) << "opened again it is the same";
  EXPECT_EQ(get(**below, where), std::byte{1});
  ASSERT_OK(overlay.block_on(overlay.remove_tree(where)));
  EXPECT_EQ(get(overlay, where), std::byte{0});
  EXPECT_EQ(get(**below, where), std::byte{1});
}

}  // namespace
}  // namespace clouddisk
