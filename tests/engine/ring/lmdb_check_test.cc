// Which LMDB files may be opened: sound ones pass, each kind of damage is found, and what passes
// can be read from end to end.
#include "engine/ring/lmdb_check.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/random.h"
#include "engine/ring/lmdb_kv.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::size_t kPage = 4096;

std::string key_of(std::uint64_t number) {
  return fmt::format("key-{:06}", number);
}

class LmdbCheck : public testing::Test {
 protected:
  // Several levels, values in overflow pages, and a list of free pages.
  void SetUp() override {
    auto kv = open_lmdb(folder_.path(), {});
    ASSERT_OK(kv);
    for (int round = 0; round < 2; ++round) {
      auto writer = (*kv)->write();
      ASSERT_OK(writer);
      for (std::uint64_t i = 0; i < 600; ++i) {
        const Bytes value(i % 50 == 0 ? 9000 : 100, static_cast<std::byte>(i));
        ASSERT_OK((*writer)->put(as_bytes(key_of(i)), value));
      }
      ASSERT_OK((*writer)->erase_range(as_bytes(key_of(100)), as_bytes(key_of(200))));
      ASSERT_OK((*writer)->commit());
    }
    kv->reset();
    std::ifstream in(path_, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(in)), {});
    sound_.resize(all.size());
    std::memcpy(sound_.data(), all.data(), all.size());
    ASSERT_GT(sound_.size(), 10 * kPage);
    const auto transaction = [this](std::size_t meta) { return get(meta * kPage + 144); };
    meta_ = transaction(1) > transaction(0) ? kPage : 0;
    root_ = get(meta_ + 128) * kPage;
    ASSERT_EQ(load_le<std::uint16_t>(sound_.data() + root_ + 10), 1U) << "a branch is wanted";
    const std::size_t node = root_ + load_le<std::uint16_t>(sound_.data() + root_ + 18);
    leaf_ = load_le<std::uint16_t>(sound_.data() + node) * kPage;
  }
  std::uint64_t get(std::size_t at) const { return load_le<std::uint64_t>(sound_.data() + at); }
  void store(const Bytes& bytes) {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
  }
  Result<void> check(const Bytes& bytes) {
    store(bytes);
    return check_lmdb_file(path_);
  }
  template <class T>
  Result<void> check_with(std::size_t at, T value) {
    Bytes bad = sound_;
    store_le(bad.data() + at, value);
    return check(bad);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/data.mdb";
  Bytes sound_;
  std::size_t meta_ = 0;  // offsets of the meta page in use, the root and a leaf of the main tree
  std::size_t root_ = 0;
  std::size_t leaf_ = 0;
};

TEST_F(LmdbCheck, ASoundFilePasses) {
  EXPECT_OK(check_lmdb_file(path_));
}

TEST_F(LmdbCheck, AFileThatIsNotThereIsNotFound) {
  EXPECT_EQ(check_lmdb_file(path_ + "-not").error().code, Errc::kNotFound);
}

TEST_F(LmdbCheck, ATruncatedFileIsFound) {
  const std::size_t used = (get(meta_ + 136) + 1) * kPage;
  for (const std::size_t size : {std::size_t{0}, std::size_t{100}, kPage, 2 * kPage, root_ + 8}) {
    const auto answer = check(Bytes(sound_.begin(), sound_.begin() + static_cast<long>(size)));
    ASSERT_FALSE(answer) << size << " of " << used;
    EXPECT_EQ(answer.error().code, Errc::kCorrupt);
  }
}

TEST_F(LmdbCheck, EachKindOfDamageIsFoundAndNamed) {
  const std::size_t first_node = load_le<std::uint16_t>(sound_.data() + leaf_ + 16);
  const std::size_t second_node = load_le<std::uint16_t>(sound_.data() + root_ + 18);
  struct Row {
    const char* what;
    std::size_t at;
    std::uint64_t value;
    unsigned bytes;
    const char* says;
  };
  const Row rows[] = {
      {"the meta page's number", meta_, 9, 8, "not a meta page"},
      {"the magic number", meta_ + 16, 1, 4, "not LMDB"},
      {"the data version", meta_ + 20, 2, 4, "another data version"},
      {"the page size", meta_ + 40, 8192, 4, "another page size"},
      {"the flags of the main tree", meta_ + 92, 4, 2, "strange flags"},
      {"the depth, too deep", meta_ + 94, 99, 2, "too deep"},
      {"the depth, wrong", meta_ + 94, 1, 2, "not a leaf"},
      {"the depth, none", meta_ + 94, 0, 2, "without depth"},
      {"the count of leaves", meta_ + 104, 3, 8, "not what its record says"},
      {"the count of entries", meta_ + 120, 1, 8, "not what its record says"},
      {"the root, outside", meta_ + 128, 1'000'000, 8, "out of range"},
      {"the root, a meta page", meta_ + 128, 1, 8, "out of range"},
      {"the root, none", meta_ + 128, ~std::uint64_t{0}, 8, "entries without a tree"},
      {"the last page, far out", meta_ + 136, std::uint64_t{1} << 50, 8, "far behind"},
      {"the last page, too low", meta_ + 136, 0, 8, "last page before"},
      {"the root's number", root_, 77, 8, "of another number"},
      {"the root's kind", root_ + 10, 2, 2, "not a branch"},
      {"the root's bounds", root_ + 12, 5000, 2, "impossible bounds"},
      {"a branch's node, outside", root_ + 18, 4095, 2, "out of bounds"},
      {"a branch's child, itself", root_ + second_node, root_ / kPage, 2, "used twice"},
      {"a branch's child, the wrong page", root_ + second_node + 4, 1, 2, "out of range"},
      {"a branch's key, too long", root_ + second_node + 6, 600, 2, "out of bounds"},
      {"a leaf's number", leaf_, 77, 8, "of another number"},
      {"a leaf's kind", leaf_ + 10, 4, 2, "not a leaf"},
      {"a leaf's node, outside", leaf_ + 16, 4094, 2, "out of bounds"},
      {"a leaf's node, odd", leaf_ + 16, first_node + 1, 2, "out of bounds"},
      {"a leaf without keys", leaf_ + 12, 16, 2, "empty leaf"},
      {"a node's flags", leaf_ + first_node + 4, 2, 2, "never write"},
      {"a node's key size", leaf_ + first_node + 6, 0, 2, "impossible size"},
      {"a node's data size", leaf_ + first_node, 0xffff, 2, "out of bounds"},
      {"a key's order", leaf_ + first_node + 8, 0xff, 1, "out of order"},
  };
  for (const Row& row : rows) {
    Bytes bad = sound_;
    for (unsigned i = 0; i < row.bytes; ++i) {
      bad[row.at + i] = static_cast<std::byte>(row.value >> (8 * i));
    }
    const auto answer = check(bad);
    ASSERT_FALSE(answer) << row.what;
    EXPECT_EQ(answer.error().code, Errc::kCorrupt) << row.what;
    EXPECT_NE(answer.error().message.find(row.says), std::string::npos)
        << row.what << ": " << answer.error().message;
  }
}

TEST_F(LmdbCheck, APageThatIsBothUsedAndFreeIsFound) {
  const std::uint64_t free_root = get(meta_ + 80);
  ASSERT_NE(free_root, ~std::uint64_t{0}) << "the test needs free pages";
  const std::size_t page = free_root * kPage;
  const std::size_t node = page + load_le<std::uint16_t>(sound_.data() + page + 16);
  const std::size_t list = node + 8 + 8;  // node header, key
  ASSERT_GE(get(list), 1U);
  const std::uint64_t lowest = list + 8 * get(list);
  EXPECT_EQ(check_with(lowest, std::uint64_t{leaf_ / kPage}).error().code, Errc::kCorrupt);
  EXPECT_EQ(check_with(list, std::uint64_t{100'000}).error().code, Errc::kCorrupt);
}

// Random damage: never a crash, never a hang, and what passes can be read from end to end.
TEST_F(LmdbCheck, WhateverIsFlippedItAnswersAndWhatPassesCanBeRead) {
  Random random(announce_seed());
  unsigned found = 0;
  for (int round = 0; round < 200; ++round) {
    Bytes bad = sound_;
    for (std::uint64_t flips = 1 + random.below(3); flips > 0; --flips) {
      // Half of them where the structure is: page headers and the first nodes.
      const std::size_t page = random.below(bad.size() / kPage) * kPage;
      const std::size_t at = page + random.below(random.one_in(2) ? 64 : kPage);
      bad[at] ^= static_cast<std::byte>(1U << random.below(8));
    }
    if (!check(bad)) {
      ++found;
      continue;
    }
    auto kv = open_lmdb(folder_.path(), {});
    if (!kv) continue;
    auto reader = (*kv)->read();
    ASSERT_OK(reader);
    std::size_t bytes = 0;
    const auto count = [&bytes](KvBytes key, KvBytes value) {
      for (const std::byte b : key) bytes += std::to_integer<std::size_t>(b);
      for (const std::byte b : value) bytes += std::to_integer<std::size_t>(b);
      return true;
    };
    static_cast<void>((*reader)->scan(as_bytes("a"), as_bytes("z"), count));
  }
  EXPECT_GT(found, 10U) << "some 40 of 200 hit what can be checked";
}

}  // namespace
}  // namespace clouddisk
