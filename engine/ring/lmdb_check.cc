#include "engine/ring/lmdb_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/ring/kv.h"

namespace clouddisk {
namespace {

constexpr std::size_t kPageSize = 4096;
constexpr std::size_t kPageHeader = 16;
constexpr std::size_t kNodeHeader = 8;
constexpr std::uint16_t kBranch = 1;
constexpr std::uint16_t kLeaf = 2;
constexpr std::uint16_t kOverflow = 4;
constexpr std::uint16_t kMeta = 8;
constexpr std::uint16_t kBigData = 1;  // node flag
constexpr std::uint32_t kMagic = 0xBEEFC0DE;
constexpr std::uint32_t kDataVersion = 1;
constexpr std::uint16_t kIntegerKey = 8;
constexpr std::uint64_t kNoPage = ~std::uint64_t{0};
constexpr unsigned kDepthMax = 32;

using Page = std::array<std::byte, kPageSize>;

struct Tree {
  std::uint16_t flags = 0;
  std::uint16_t depth = 0;
  std::uint64_t branch_pages = 0;
  std::uint64_t leaf_pages = 0;
  std::uint64_t overflow_pages = 0;
  std::uint64_t entries = 0;
  std::uint64_t root = kNoPage;
};

struct Meta {
  Tree free;
  Tree main;
  std::uint64_t last_page = 0;
  std::uint64_t transaction = 0;
};

Error damaged(std::uint64_t page, const char* what) {
  return fail(Errc::kCorrupt, "lmdb page {}: {}", page, what);
}

class Checker {
 public:
  explicit Checker(int fd, std::uint64_t size) : fd_(fd), file_pages_(size / kPageSize) {}
  Result<void> run();

 private:
  Result<void> read(std::uint64_t number, Page& page) const;
  Result<Meta> read_meta(std::uint64_t number) const;
  Result<void> walk_tree(const Tree& tree, bool integers);
  Result<void> walk(std::uint64_t number, unsigned depth);
  Result<void> walk_leaf(std::uint64_t number, const Page& page, std::size_t keys);
  Result<void> take(std::uint64_t number, std::uint64_t count);
  Result<void> next_key(std::uint64_t number, std::span<const std::byte> key);
  Result<void> check_value(std::uint64_t number, std::span<const std::byte> node_data,
                           std::uint32_t size, std::uint16_t flags);
  Result<void> note_free(std::uint64_t number, std::span<const std::byte> list);
  bool less(std::span<const std::byte> a, std::span<const std::byte> b) const;

  int fd_;
  std::uint64_t file_pages_;
  std::uint64_t last_page_ = 0;
  std::vector<bool> used_;
  std::vector<std::uint64_t> free_;
  // Of the tree being walked.
  bool integers_ = false;
  Tree counted_;
  std::vector<std::byte> previous_key_;
  bool any_key_ = false;
  std::vector<std::byte> at_least_;  // separator that the next leaf key must reach
};

Result<void> Checker::read(std::uint64_t number, Page& page) const {
  if (number >= file_pages_) return damaged(number, "past the end of the file");
  const auto got = ::pread(fd_, page.data(), page.size(), static_cast<off_t>(number * kPageSize));
  if (got < 0) return fail_errno(errno, "read lmdb page {}", number);
  if (got != static_cast<ssize_t>(page.size())) return damaged(number, "cut short");
  return {};
}

Tree get_tree(ByteReader& in) {
  Tree tree;
  tree.flags = in.le<std::uint16_t>();
  tree.depth = in.le<std::uint16_t>();
  tree.branch_pages = in.le<std::uint64_t>();
  tree.leaf_pages = in.le<std::uint64_t>();
  tree.overflow_pages = in.le<std::uint64_t>();
  tree.entries = in.le<std::uint64_t>();
  tree.root = in.le<std::uint64_t>();
  return tree;
}

Result<Meta> Checker::read_meta(std::uint64_t number) const {
  Page page;
  if (auto got = read(number, page); !got) return got.error();
  ByteReader in(page);
  const auto own = in.le<std::uint64_t>();
  in.skip(2);
  const auto flags = in.le<std::uint16_t>();
  in.skip(4);
  if (own != number || flags != kMeta) return damaged(number, "not a meta page");
  if (in.le<std::uint32_t>() != kMagic) return damaged(number, "not LMDB");
  if (in.le<std::uint32_t>() != kDataVersion) return damaged(number, "another data version");
  in.skip(16);  // address, map size
  const auto page_size = in.le<std::uint32_t>();
  if (page_size != kPageSize) return damaged(number, "another page size");
  Meta meta;
  meta.free = get_tree(in);
  in.skip(4);
  meta.main = get_tree(in);
  meta.last_page = in.le<std::uint64_t>();
  meta.transaction = in.le<std::uint64_t>();
  if (meta.free.flags != kIntegerKey || meta.main.flags != 0)
    return damaged(number, "strange flags");
  if (meta.last_page < 1) return damaged(number, "last page before the meta pages");
  return meta;
}

Result<void> Checker::run() {
  auto first = read_meta(0);
  if (!first) return first.error();
  auto second = read_meta(1);
  if (!second) return second.error();
  // The one that LMDB takes.
  const Meta& meta = second->transaction > first->transaction ? *second : *first;
  if (meta.last_page > file_pages_ + (std::uint64_t{1} << 20)) {
    return damaged(0, "last page far behind the end of the file");
  }
  last_page_ = meta.last_page;
  used_.assign(last_page_ + 1, false);
  used_[0] = used_[1] = true;
  if (auto walked = walk_tree(meta.free, true); !walked) return walked;
  if (auto walked = walk_tree(meta.main, false); !walked) return walked;
  for (const std::uint64_t page : free_) {
    if (used_[page]) return damaged(page, "is in use and in the list of free pages");
    used_[page] = true;  // And in the list only once.
  }
  return {};
}

Result<void> Checker::walk_tree(const Tree& tree, bool integers) {
  integers_ = integers;
  counted_ = Tree{};
  previous_key_.clear();
  at_least_.clear();
  any_key_ = false;
  if (tree.depth > kDepthMax) return damaged(tree.root, "tree too deep");
  if (tree.root == kNoPage) {
    if (tree.entries != 0 || tree.depth != 0) return damaged(0, "entries without a tree");
    return {};
  }
  if (tree.depth == 0) return damaged(tree.root, "a tree without depth");
  if (auto walked = walk(tree.root, tree.depth); !walked) return walked;
  if (counted_.entries != tree.entries || counted_.branch_pages != tree.branch_pages ||
      counted_.leaf_pages != tree.leaf_pages || counted_.overflow_pages != tree.overflow_pages) {
    return damaged(tree.root, "the tree has not what its record says");
  }
  return {};
}

Result<void> Checker::take(std::uint64_t number, std::uint64_t count) {
  if (number < 2 || number > last_page_ || count > last_page_ - number + 1) {
    return damaged(number, "out of range");
  }
  for (std::uint64_t page = number; page < number + count; ++page) {
    if (used_[page]) return damaged(page, "used twice");
    used_[page] = true;
  }
  return {};
}

bool Checker::less(std::span<const std::byte> a, std::span<const std::byte> b) const {
  if (integers_) return load_le<std::uint64_t>(a.data()) < load_le<std::uint64_t>(b.data());
  return std::ranges::lexicographical_compare(a, b);
}

Result<void> Checker::next_key(std::uint64_t number, std::span<const std::byte> key) {
  if (key.empty() || key.size() > kKvKeyMax || (integers_ && key.size() != 8)) {
    return damaged(number, "a key of impossible size");
  }
  if (any_key_ && !less(previous_key_, key)) return damaged(number, "keys out of order");
  if (!at_least_.empty() && less(key, at_least_)) return damaged(number, "key below its branch");
  at_least_.clear();
  previous_key_.assign(key.begin(), key.end());
  any_key_ = true;
  return {};
}

Result<void> Checker::walk(std::uint64_t number, unsigned depth) {
  if (auto taken = take(number, 1); !taken) return taken;
  Page page;
  if (auto got = read(number, page); !got) return got;
  const auto flags = load_le<std::uint16_t>(page.data() + 10);
  const auto lower = load_le<std::uint16_t>(page.data() + 12);
  const auto upper = load_le<std::uint16_t>(page.data() + 14);
  if (load_le<std::uint64_t>(page.data()) != number) return damaged(number, "of another number");
  if (lower < kPageHeader || lower > upper || upper > kPageSize || lower % 2 != 0) {
    return damaged(number, "impossible bounds");
  }
  const std::size_t keys = (lower - kPageHeader) / 2;
  if (depth == 1) {
    if (flags != kLeaf) return damaged(number, "not a leaf");
    ++counted_.leaf_pages;
    return walk_leaf(number, page, keys);
  }
  if (flags != kBranch || keys < 2) return damaged(number, "not a branch");
  ++counted_.branch_pages;
  for (std::size_t i = 0; i < keys; ++i) {
    const std::size_t at = load_le<std::uint16_t>(page.data() + kPageHeader + 2 * i);
    if (at < upper || at % 2 != 0 || at + kNodeHeader > kPageSize) {
      return damaged(number, "node out of bounds");
    }
    const std::uint64_t child = load_le<std::uint16_t>(page.data() + at) |
                                std::uint64_t{load_le<std::uint16_t>(page.data() + at + 2)} << 16 |
                                std::uint64_t{load_le<std::uint16_t>(page.data() + at + 4)} << 32;
    const std::size_t key_size = load_le<std::uint16_t>(page.data() + at + 6);
    if (at + kNodeHeader + key_size > kPageSize || key_size > kKvKeyMax) {
      return damaged(number, "node out of bounds");
    }
    if (i > 0) {
      const auto key = std::span(page).subspan(at + kNodeHeader, key_size);
      if (key.empty() || (integers_ && key.size() != 8))
        return damaged(number, "a branch without key");
      if (any_key_ && !less(previous_key_, key)) return damaged(number, "branch keys out of order");
      at_least_.assign(key.begin(), key.end());
    }
    if (auto walked = walk(child, depth - 1); !walked) return walked;
  }
  return {};
}

Result<void> Checker::walk_leaf(std::uint64_t number, const Page& page, std::size_t keys) {
  if (keys == 0) return damaged(number, "an empty leaf");
  const auto upper = load_le<std::uint16_t>(page.data() + 14);
  for (std::size_t i = 0; i < keys; ++i) {
    const std::size_t at = load_le<std::uint16_t>(page.data() + kPageHeader + 2 * i);
    if (at < upper || at % 2 != 0 || at + kNodeHeader > kPageSize) {
      return damaged(number, "node out of bounds");
    }
    const std::uint32_t size = load_le<std::uint16_t>(page.data() + at) |
                               std::uint32_t{load_le<std::uint16_t>(page.data() + at + 2)} << 16;
    const auto flags = load_le<std::uint16_t>(page.data() + at + 4);
    const std::size_t key_size = load_le<std::uint16_t>(page.data() + at + 6);
    const std::size_t data_at = at + kNodeHeader + key_size;
    if (flags != 0 && flags != kBigData) return damaged(number, "a node of a kind we never write");
    const std::size_t stored = flags == kBigData ? 8 : size;
    if (key_size > kKvKeyMax || data_at > kPageSize || stored > kPageSize - data_at) {
      return damaged(number, "node out of bounds");
    }
    auto ordered = next_key(number, std::span(page).subspan(at + kNodeHeader, key_size));
    if (!ordered) return ordered;
    ++counted_.entries;
    auto value = check_value(number, std::span(page).subspan(data_at, stored), size, flags);
    if (!value) return value;
  }
  return {};
}

Result<void> Checker::check_value(std::uint64_t number, std::span<const std::byte> node_data,
                                  std::uint32_t size, std::uint16_t flags) {
  if (flags != kBigData) return integers_ ? note_free(number, node_data) : Result<void>{};
  const auto first = load_le<std::uint64_t>(node_data.data());
  const std::uint64_t count = (kPageHeader - 1 + std::uint64_t{size}) / kPageSize + 1;
  if (auto taken = take(first, count); !taken) return taken;
  Page head;
  if (auto got = read(first, head); !got) return got;
  if (load_le<std::uint64_t>(head.data()) != first ||
      load_le<std::uint16_t>(head.data() + 10) != kOverflow ||
      load_le<std::uint32_t>(head.data() + 12) != count || first + count > file_pages_) {
    return damaged(first, "not the overflow pages of its node");
  }
  counted_.overflow_pages += count;
  if (!integers_) return {};
  std::vector<std::byte> list(size);
  const auto got =
      ::pread(fd_, list.data(), list.size(), static_cast<off_t>(first * kPageSize + kPageHeader));
  if (got != static_cast<ssize_t>(list.size())) return damaged(first, "cut short");
  return note_free(first, list);
}

// A list of free pages: how many, then their numbers, descending.
Result<void> Checker::note_free(std::uint64_t number, std::span<const std::byte> list) {
  if (list.size() < 8 || list.size() % 8 != 0) return damaged(number, "a free list of odd size");
  const auto count = load_le<std::uint64_t>(list.data());
  if (count > list.size() / 8 - 1) return damaged(number, "a free list longer than its record");
  std::uint64_t previous = kNoPage;
  for (std::uint64_t i = 1; i <= count; ++i) {
    const auto page = load_le<std::uint64_t>(list.data() + i * 8);
    if (page < 2 || page > last_page_ || page >= previous) {
      return damaged(number, "a free list that makes no sense");
    }
    previous = page;
    free_.push_back(page);
  }
  return {};
}

}  // namespace

Result<void> check_lmdb_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "open {}", path);
  struct ::stat info {};
  Result<void> result;
  if (::fstat(fd, &info) != 0) {
    result = fail_errno(errno, "stat {}", path);
  } else {
    Checker checker(fd, static_cast<std::uint64_t>(info.st_size));
    result = checker.run();
  }
  ::close(fd);
  if (!result) return fail(result.error(), "{}", path);
  return {};
}

}  // namespace clouddisk
