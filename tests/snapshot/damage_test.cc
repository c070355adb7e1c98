// Flipped bytes in packs and indexes of snapshots: what is right, what is repaired, what is lost.
#include <fstream>

#include "tests/snapshot/volume_fixture.h"

namespace clouddisk::snapshot {
namespace {

class SnapshotDamage : public VolumeModel {
 protected:
  void SetUp() override {
    options_.chain.frame_cache_bytes = 0;
    options_.chain.repack = false;
    VolumeModel::SetUp();
    for (int i = 0; i < 60; ++i) write();
    take();
    capture_whole();
    for (int i = 0; i < 20; ++i) write();
    take();
    capture_whole();
  }
  std::shared_ptr<Chain> chain() { return *ring_->block_on(volume_->chain()); }
  std::vector<fs::path> pack_files(unsigned replica) {
    std::vector<fs::path> files;
    const auto folder =
        fs::path(root_.path()) / fmt::format("replica-{}", replica) / "disks" / chain()->id();
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    return files;
  }
  static std::string bytes_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes(fs::file_size(path), '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return bytes;
  }
  static void flip(const fs::path& path, std::uint64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(byte ^ 0x40));
  }
  // Flips a byte of the frame in the copies 1 to `copies`, `offset` bytes into it.
  void flip_in_frame(PackAddress address, unsigned copies, std::uint64_t offset) {
    std::string header(24, '\0');
    std::memcpy(header.data(), "CFRM\x01\x00\x01\x00", 8);
    const ChainTag tag = chain_tag(chain()->id());
    std::memcpy(header.data() + 8, &tag, 8);
    std::memcpy(header.data() + 16, &address, 8);
    for (unsigned replica = 1; replica <= copies; ++replica) {
      unsigned found = 0;
      for (const fs::path& path : pack_files(replica)) {
        const std::string bytes = bytes_of(path);
        for (auto at = bytes.find(header); at != std::string::npos;
             at = bytes.find(header, at + 1)) {
          flip(path, at + offset);
          ++found;
        }
      }
      ASSERT_GT(found, 0U) << "frame " << address << " on replica " << replica;
    }
  }
  // Some frame that the snapshot shows, and which blocks of its page are in the 4 KiB of the pack
  // that `offset` in it is part of.
  struct Target {
    PackAddress frame = 0;
    std::set<std::uint64_t> blocks;
  };
  Target target(std::uint64_t seq, std::uint64_t offset) {
    Target target;
    for (std::uint64_t page = 0; page <= kBlocks / kPageBlocks; ++page) {
      auto found = ring_->block_on(chain()->page(seq, page));
      EXPECT_TRUE(found);
      for (std::size_t i = 0; *found && i < kPageBlocks; ++i) {
        const PackedBlock block = (*found)->blocks[i];
        if (block.is_hole()) continue;
        if (target.frame == 0 && block.frame() != 0 && block.index() == 5) {
          target.frame = block.frame();
        }
      }
    }
    const std::uint64_t hit = align_down(target.frame + offset, kBlockSize);
    for (std::uint64_t page = 0; page <= kBlocks / kPageBlocks; ++page) {
      auto found = ring_->block_on(chain()->page(seq, page));
      for (std::size_t i = 0; *found && i < kPageBlocks; ++i) {
        const PackedBlock block = (*found)->blocks[i];
        if (block.is_hole()) continue;
        if (block.frame() < hit + kBlockSize && block.frame() + block.frame_bytes() > hit) {
          target.blocks.insert(page * kPageBlocks + i);
        }
      }
    }
    return target;
  }
  // How many blocks can't be read. Every other one is right.
  std::set<std::uint64_t> unreadable(std::uint64_t seq) {
    std::set<std::uint64_t> lost;
    auto source = ring_->block_on(volume_->source(seq));
    EXPECT_TRUE(source);
    std::vector<std::byte> block(kBlockSize);
    std::vector<std::byte> expected(kBlockSize);
    for (std::uint64_t lba = 0; lba < kBlocks; ++lba) {
      auto read = ring_->block_on((*source)->read(*ring_, Lba(lba), block));
      if (!read) {
        EXPECT_EQ(read.error().code, Errc::kIo) << read.error().message;
        lost.insert(lba);
        continue;
      }
      fill_block(expected.data(), taken_.at(seq).content[lba]);
      EXPECT_EQ(block, expected) << lba;
    }
    return lost;
  }
  // Flips a byte of every index page of the pack that is of that snapshot, in all copies. Twice
  // restores them.
  void flip_records(std::uint64_t seq) {
    std::string header(32, '\0');
    std::memcpy(header.data(), "CFRM\x01\x00\x02\x00", 8);
    const ChainTag tag = chain_tag("sl-test0000000000000001");
    std::memcpy(header.data() + 8, &tag, 8);
    for (unsigned replica = 1; replica <= kReplicaCount; ++replica) {
      unsigned found = 0;
      for (const fs::path& path : pack_files(replica)) {
        const std::string bytes = bytes_of(path);
        for (auto at = bytes.find(header.substr(0, 16)); at != std::string::npos;
             at = bytes.find(header.substr(0, 16), at + 1)) {
          if (static_cast<std::uint64_t>(bytes[at + 24]) != seq) continue;
          flip(path, at + kFrameHeaderSize + 8);
          ++found;
        }
      }
      ASSERT_GT(found, 0U) << "replica " << replica;
    }
  }
  // Whether a node of an LMDB leaf begins there. A branch's has a key as well, but no value, and
  // what is left of one that was moved is another's now. A page begins with 16 bytes: at 10 its
  // flags, of which 2 is a leaf's, and at 12 where the list of its nodes' offsets ends.
  static bool is_leaf_node(const std::string& bytes, std::size_t at) {
    const auto number = [&bytes](std::size_t place) {
      std::uint16_t value = 0;
      std::memcpy(&value, bytes.data() + place, sizeof value);
      return std::size_t{value};
    };
    const std::size_t page = at / 4096 * 4096;
    if ((number(page + 10) & 2) == 0) return false;
    const std::size_t end = page + std::min<std::size_t>(number(page + 12), 4096);
    for (std::size_t entry = page + 16; entry + 2 <= end; entry += 2) {
      if (page + number(entry) == at) return true;
    }
    return false;
  }
  // Flips a byte of that version in the open index; how many places hold it.
  unsigned flip_in_index(std::uint64_t page, std::uint64_t seq) {
    const std::string path = root_.path() + "/index/" + chain()->id() + "-chain/data.mdb";
    const std::string bytes = bytes_of(path);
    std::string key = "p" + std::string(16, '\0');
    key[8] = static_cast<char>(page);
    key[16] = static_cast<char>(seq);
    unsigned flipped = 0;
    for (auto at = bytes.find(key); at != std::string::npos; at = bytes.find(key, at + 1)) {
      // Of LMDB's node: flags (2) and the key's length (2) stand before the key, a value that is
      // not in pages of its own (flag 1) behind it.
      if (bytes[at - 4] != 0 || bytes[at - 2] != 17) continue;
      if (!is_leaf_node(bytes, at - 8)) continue;
      flip(path, at + key.size() + 2);
      ++flipped;
    }
    return flipped;
  }
  void restart_without_index() {
    stop();
    fs::remove_all(root_.path() + "/index");
    start();
    open();
  }
};

TEST_F(SnapshotDamage, OneOrTwoCopiesOfAPackAreReadFromTheThirdAndRepaired) {
  // The second replica is the one that the first MiB of the first segment is read from.
  std::uint64_t before = 0;
  for (const std::vector<unsigned>& damaged : {std::vector<unsigned>{2}, {2, 1}}) {
    for (const unsigned replica : damaged) {
      for (const fs::path& path : pack_files(replica)) {
        for (std::uint64_t at = 3 * kBlockSize; at < fs::file_size(path); at += 20 * kBlockSize) {
          flip(path, at + 100);
        }
      }
    }
    look(true);
    const auto errors = chain()->pack().usage().reads.checksum_errors;
    EXPECT_GT(errors, before);
    look(true);
    EXPECT_EQ(chain()->pack().usage().reads.checksum_errors, errors) << damaged.size() << " copies";
    before = errors;
  }
}

TEST_F(SnapshotDamage, AnOlderIndexThatIsPutBackIsMadeAnewAndTakesNoSnapshotAlong) {
  const std::string index = root_.path() + "/index/" + chain()->id() + "-chain";
  const std::string older = root_.path() + "/older";
  stop();
  fs::copy(index, older);
  start();
  open();
  for (int i = 0; i < 20; ++i) write();
  take();
  capture_whole();
  stop();
  fs::remove_all(index);
  fs::copy(older, index);
  start();
  open();
  look(true);
  EXPECT_EQ(unreadable(3), std::set<std::uint64_t>());
}

TEST_F(SnapshotDamage, ThreeCopiesAreAnErrorForTheirBlocksAlone) {
  const std::uint64_t offset = kFrameHeaderSize + 9000;
  const Target damaged = target(1, offset);
  ASSERT_NE(damaged.frame, 0U);
  flip_in_frame(damaged.frame, 3, offset);
  testing::internal::CaptureStderr();
  const auto lost = unreadable(1);
  const std::string logged = testing::internal::GetCapturedStderr();
  EXPECT_FALSE(lost.empty());
  EXPECT_TRUE(std::includes(damaged.blocks.begin(), damaged.blocks.end(), lost.begin(), lost.end()))
      << lost.size() << " lost, " << damaged.blocks.size() << " damaged";
  EXPECT_NE(logged.find(chain()->id()), std::string::npos) << "the log names it:\n" << logged;
  // The chain lives on: another snapshot, a deletion beside it, repacking, an index made anew.
  write();
  take();
  capture_whole();
  EXPECT_TRUE(unreadable(3).size() <= lost.size());
  auto repacked = ring_->block_on(chain()->repack(1));
  EXPECT_TRUE(repacked) << repacked.error().message;
  taken_.erase(2);
  auto gone = ring_->block_on(volume_->drop(2));
  EXPECT_TRUE(gone) << gone.error().message;
  repacked = ring_->block_on(chain()->repack(1));
  EXPECT_TRUE(repacked) << repacked.error().message;
  EXPECT_EQ(unreadable(1), lost);
  restart_without_index();
  EXPECT_EQ(unreadable(1), lost);
}

TEST_F(SnapshotDamage, WhatIsWrittenAgainAsItWasIsStoredAnewWhereTheSnapshotBeforeIsLost) {
  const std::uint64_t offset = kFrameHeaderSize + 9000;
  const Target damaged = target(2, offset);
  flip_in_frame(damaged.frame, 3, offset);
  const auto lost = unreadable(2);
  ASSERT_FALSE(lost.empty());
  // Each beside one that can be read: both were moved, and are compared with the snapshot.
  std::set<std::uint64_t> moved = lost;
  for (const std::uint64_t lba : lost) moved.insert(lba == 0 ? lba + 1 : lba - 1);
  for (const std::uint64_t lba : moved) {
    Buffer data = ring_->block_on(machine_->client_buffers.allocate(kBlockSize));
    fill_block(data.data(), now_[lba]);
    ASSERT_TRUE(ring_->block_on(disk()->write(lba * kBlockSize, std::move(data), false)));
  }
  take();
  capture_whole();
  EXPECT_EQ(captured_bytes_, lost.size() * kBlockSize) << "not what reads back and is the same";
  EXPECT_EQ(unreadable(3), std::set<std::uint64_t>());
  EXPECT_EQ(unreadable(2), lost);
}

TEST_F(SnapshotDamage, AFrameWhoseHeaderIsDamagedIsRepairedAndFoundByARebuild) {
  const Target damaged = target(1, 20);
  flip_in_frame(damaged.frame, 2, 40);
  restart_without_index();
  look(true);
}

TEST_F(SnapshotDamage, AnIndexWhoseValuesAreDamagedWhileItIsOpenIsMadeAnew) {
  stop();
  start();
  open();
  unsigned flipped = 0;
  for (std::uint64_t page = 0; page <= kBlocks / kPageBlocks; ++page) {
    flipped += flip_in_index(page, 1);
  }
  ASSERT_GT(flipped, 0U);
  testing::internal::CaptureStderr();
  look(true);
  const std::string logged = testing::internal::GetCapturedStderr();
  EXPECT_NE(logged.find("index damaged"), std::string::npos) << logged;
  write();
  take();
  capture_whole();
  look(true);
}

TEST_F(SnapshotDamage, AnIndexWithFlippedBytesIsMadeAnewAtItsNextOpen) {
  const std::string path = root_.path() + "/index/" + chain()->id() + "-chain/data.mdb";
  for (std::uint64_t step = 700; step < 4000; step += 611) {
    stop();
    const std::uint64_t size = fs::file_size(path);
    for (std::uint64_t at = 2 * 4096 + step; at < size; at += 4096) flip(path, at);
    start();
    open();
    look(true);
    if (HasFatalFailure()) return;
  }
  // And everything works on.
  write();
  take();
  capture_whole();
  look(true);
}

TEST_F(SnapshotDamage, AReadThatFindsTheIndexDamagedDoesNotHoldUpARepackingUnderWay) {
  // Frames of the first page are mostly unused; the last page is not of them.
  const std::uint64_t last = kBlocks / kPageBlocks;
  const auto overwrite = [this](std::uint64_t first, std::uint64_t count) {
    Buffer data = ring_->block_on(machine_->client_buffers.allocate(count * kBlockSize));
    for (std::uint64_t i = 0; i < count; ++i) {
      fill_block(data.data() + i * kBlockSize, next_);
      now_[first + i] = next_++;
    }
    ASSERT_TRUE(ring_->block_on(disk()->write(first * kBlockSize, std::move(data), false)));
  };
  overwrite(0, kPageBlocks);
  overwrite(last * kPageBlocks, 1);
  take();
  capture_whole();
  for (std::uint64_t lba = 0; lba < kPageBlocks; lba += 8) overwrite(lba, 7);
  overwrite(last * kPageBlocks, 1);
  take();
  capture_whole();
  for (const std::uint64_t seq : {1U, 2U, 3U}) {
    taken_.erase(seq);
    ASSERT_TRUE(ring_->block_on(volume_->drop(seq)));
  }
  stop();
  start();
  open();
  ASSERT_GT(flip_in_index(last, 4), 0U);
  const std::shared_ptr<Chain> chain = this->chain();
  std::vector<std::byte> got(kBlockSize);
  Result<void> read = fail(Errc::kIo, "not done");
  std::uint64_t repacked = 0;
  auto both = [&]() -> Task<void> {
    WaitGroup group(*ring_);
    auto reading = [&]() -> Task<void> {
      read = co_await chain->read(4, Lba(last * kPageBlocks), got);
      group.done();
    };
    auto repacking = [&]() -> Task<void> {
      auto count = co_await chain->repack(1);
      if (count) repacked = *count;
      group.done();
    };
    group.add();
    group.add();
    spawn(repacking());
    spawn(reading());
    co_await group.wait();
  };
  ring_->block_on(both());
  EXPECT_TRUE(read) << read.error().message;
  EXPECT_GT(repacked, 0U);
  look(true);
}

TEST_F(SnapshotDamage, IndexPagesThatCanNotBeReadForATimeCostNoData) {
  flip_records(2);
  testing::internal::CaptureStderr();
  stop();
  fs::remove_all(root_.path() + "/index/sl-test0000000000000001-chain");
  start();
  open();
  static_cast<void>(chain());
  const std::string logged = testing::internal::GetCapturedStderr();
  EXPECT_NE(logged.find("nothing is trimmed"), std::string::npos) << logged;
  // A deletion gives back what is its own, and nothing beside it.
  taken_.erase(1);
  ASSERT_TRUE(ring_->block_on(volume_->drop(1)));
  flip_records(2);
  stop();
  start();
  open();
  EXPECT_EQ(unreadable(2), std::set<std::uint64_t>());
}

TEST_F(SnapshotDamage, AnIndexThatHealsKeepsWhatOnlyItCanTell) {
  stop();
  start();
  open();
  ASSERT_GT(flip_in_index(0, 1), 0U);
  flip_records(2);
  static_cast<void>(unreadable(1));
  // Frames of blocks may have their end in the block that can't be read; the others are right.
  EXPECT_LT(unreadable(2).size(), kFrameBlocks * 2);
  flip_records(2);
  look(true);
}

}  // namespace
}  // namespace clouddisk::snapshot
