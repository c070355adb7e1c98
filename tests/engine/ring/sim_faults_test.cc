// Devices that fill up, hang, disappear, and lie.
#include <gtest/gtest.h>

#include <bit>
#include <cerrno>

#include "engine/ring/sim_machine.h"
#include "tests/engine/ring/sim_support.h"
#include "tests/support/seed.h"

namespace clouddisk {
namespace {

using std::chrono::seconds;

TEST(SimFaults, AFullDeviceRefusesWritesAndReservationsAndOthersGoOn) {
  SimMachine machine(announce_seed());
  machine.add_device("/r1", 1_MiB);
  machine.add_device("/r2", 1_MiB);
  Process process(machine);
  Ring& ring = *process.ring;
  ASSERT_TRUE(ring.block_on(ring.make_directories("/r1")));
  ASSERT_TRUE(ring.block_on(ring.make_directories("/r2")));
  const File file = process.open("/r1/f");
  EXPECT_EQ(process.allocate(file, 1_MiB - 4_KiB), 0);
  EXPECT_EQ(ring.block_on(ring.space("/r1"))->available, 4_KiB);
  EXPECT_EQ(ring.block_on(ring.space("/r1"))->total, 1_MiB);
  const File other = process.open("/r1/g");
  EXPECT_EQ(process.write(other, 0, filled(8192, 1)), -ENOSPC);
  EXPECT_EQ(ring.block_on(ring.stat("/r1/g"))->size, 0U);
  EXPECT_EQ(process.allocate(other, 1_MiB), -ENOSPC);
  EXPECT_EQ(process.write(other, 0, filled(4096, 1)), 4096);
  EXPECT_EQ(process.write(file, 4096, filled(8192, 1)), 8192);  // Reserved: always room.
  EXPECT_EQ(process.write(process.open("/r2/f"), 0, filled(8192, 1)), 8192);
  EXPECT_NE(ring.block_on(ring.stat("/r1/f"))->device, ring.block_on(ring.stat("/r2/f"))->device);
  EXPECT_FALSE(ring.block_on(ring.rename("/r1/f", "/r2/g")));  // EXDEV
}

TEST(SimFaults, AnUnlinkedFileWorksAndKeepsItsSpaceUntilItIsClosed) {
  SimMachine machine(announce_seed());
  machine.add_device("/r1", 1_MiB);
  Process process(machine);
  Ring& ring = *process.ring;
  ASSERT_TRUE(ring.block_on(ring.make_directories("/r1")));
  File file = process.open("/r1/f");
  EXPECT_EQ(process.write(file, 0, filled(64_KiB, 5)), static_cast<std::int32_t>(64_KiB));
  ASSERT_TRUE(ring.block_on(ring.remove("/r1/f")));
  EXPECT_EQ(ring.block_on(ring.stat("/r1/f")).error().code, Errc::kNotFound);
  EXPECT_EQ(process.read(file, 60_KiB, 4_KiB), filled(4_KiB, 5));
  EXPECT_EQ(ring.block_on(ring.space("/r1"))->available, 1_MiB - 64_KiB);
  file.close();
  EXPECT_EQ(ring.block_on(ring.space("/r1"))->available, 1_MiB);
}

TEST(SimFaults, SpaceIsCountedAnewAfterAPowerLoss) {
  const std::uint64_t seed = announce_seed();
  for (unsigned run = 0; run < 50; ++run) {
    SimMachine machine(seed + run);
    machine.add_device("/r1", 1_MiB);
    Process process(machine);
    process.make_durable("/r1", "f", filled(64_KiB, 1));
    ASSERT_TRUE(process.ring->block_on(process.ring->remove("/r1/f")));
    process.kill();
    machine.power_loss();
    Process next(machine);
    const std::uint64_t used = machine.exists("/r1/f") ? 64_KiB : 0;
    ASSERT_EQ(next.ring->block_on(next.ring->space("/r1"))->available, 1_MiB - used);
  }
}

TEST(SimFaults, AHungDeviceAnswersWhenItsTimeComes) {
  SimMachine machine(announce_seed());
  Process process(machine);
  const File file = process.open("/f");
  SimFaults faults;
  faults.hung_until = process.ring->now() + seconds(100);
  machine.set_faults("/f", faults);
  EXPECT_EQ(process.write(file, 0, filled(512, 1)), 512);
  EXPECT_EQ(process.ring->now(), faults.hung_until);
}

Task<void> repair_later(SimRing& ring, Duration delay) {
  co_await ring.sleep_for(delay);
  ring.machine().clear_faults();
}

TEST(SimFaults, ADeviceThatHangsForEverAnswersOnceItIsRepaired) {
  SimMachine machine(announce_seed());
  Process process(machine);
  const File file = process.open("/f");
  SimFaults faults;
  faults.hung_until = SimFaults::kForever;
  machine.set_faults("/", faults);
  const TimePoint start = process.ring->now();
  spawn(repair_later(*process.ring, seconds(7)));
  EXPECT_EQ(process.write(file, 0, filled(512, 1)), 512);
  EXPECT_EQ(process.ring->now(), start + seconds(7));
}

TEST(SimFaults, ASlowDeviceTakesLonger) {
  SimMachine machine(announce_seed());
  Process process(machine);
  const File file = process.open("/f");
  SimFaults faults;
  faults.slow = seconds(2);
  machine.set_faults("/", faults);
  const TimePoint start = process.ring->now();
  EXPECT_EQ(process.write(file, 0, filled(512, 1)), 512);
  EXPECT_GE(process.ring->now(), start + seconds(2));
  EXPECT_LT(process.ring->now(), start + seconds(3));
}

TEST(SimFaults, ADeviceThatIsGoneFailsEverythingAndMayComeBack) {
  SimMachine machine(announce_seed());
  Process process(machine);
  Ring& ring = *process.ring;
  ASSERT_TRUE(ring.block_on(ring.make_directories("/r1")));
  ASSERT_TRUE(ring.block_on(ring.make_directories("/r10")));
  const File file = process.open("/r1/f");
  EXPECT_EQ(process.write(file, 0, filled(512, 1)), 512);
  SimFaults faults;
  faults.gone = true;
  machine.set_faults("/r1", faults);
  EXPECT_EQ(process.write(file, 0, filled(512, 2)), -EIO);
  EXPECT_EQ(process.sync(file), -EIO);
  EXPECT_EQ(process.allocate(file, 4096), -EIO);
  Bytes data(512);
  EXPECT_EQ(ring.block_on(read_at(ring, file, 0, data)), -EIO);
  EXPECT_EQ(process.try_open("/r1/f").error().code, Errc::kIo);
  EXPECT_EQ(ring.block_on(ring.stat("/r1")).error().code, Errc::kIo);
  EXPECT_EQ(ring.block_on(ring.list("/r1")).error().code, Errc::kIo);
  EXPECT_EQ(ring.block_on(ring.sync_directory("/r1")).error().code, Errc::kIo);
  EXPECT_TRUE(process.try_open("/r10/f"));  // Whole components only.
  machine.set_faults("/r1", {});
  EXPECT_EQ(process.read(file, 0, 512), filled(512, 1));
}

TEST(SimFaults, AReadOnlyFilesystemReadsAndRefusesChanges) {
  SimMachine machine(announce_seed());
  Process process(machine);
  Ring& ring = *process.ring;
  const File file = process.open("/f");
  EXPECT_EQ(process.write(file, 0, filled(512, 1)), 512);
  SimFaults faults;
  faults.read_only = true;
  machine.set_faults("/", faults);
  EXPECT_EQ(process.write(file, 0, filled(512, 2)), -EROFS);
  EXPECT_EQ(process.sync(file), -EROFS);
  EXPECT_EQ(process.read(file, 0, 512), filled(512, 1));
  EXPECT_EQ(process.try_open("/g").error().code, Errc::kReadOnly);
  EXPECT_EQ(ring.block_on(ring.remove("/f")).error().code, Errc::kReadOnly);
  EXPECT_TRUE(ring.block_on(ring.list("/")));
}

TEST(SimFaults, ErrorsComeAtTheirRate) {
  SimMachine machine(announce_seed());
  Process process(machine);
  const File file = process.open("/f");
  EXPECT_EQ(process.write(file, 0, filled(512, 1)), 512);
  SimFaults faults;
  faults.read_error = 4;
  machine.set_faults("/f", faults);
  int failed = 0;
  Bytes data(512);
  for (int i = 0; i < 1000; ++i) {
    failed += process.ring->block_on(read_at(*process.ring, file, 0, data)) == -EIO ? 1 : 0;
  }
  EXPECT_GT(failed, 125);  // 250 expected, with a deviation of 14.
  EXPECT_LT(failed, 375);
}

std::size_t bits_apart(const Bytes& a, const Bytes& b) {
  std::size_t bits = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    bits += static_cast<std::size_t>(std::popcount(static_cast<unsigned>(a[i] ^ b[i])));
  }
  return bits;
}

TEST(SimFaults, AFlippedBitOnReadIsGoneTheNextTimeAndRotIsNot) {
  SimMachine machine(announce_seed());
  Process process(machine);
  const File file = process.open("/f");
  const Bytes original = filled(4096, 0x5a);
  process.write(file, 0, original);
  SimFaults faults;
  faults.read_flip = 1;
  machine.set_faults("/", faults);
  EXPECT_EQ(bits_apart(process.read(file, 0, 4096), original), 1U);
  machine.clear_faults();
  EXPECT_EQ(process.read(file, 0, 4096), original);

  EXPECT_EQ(machine.rot("/"), "/f");
  EXPECT_EQ(bits_apart(process.read(file, 0, 4096), original), 1U);
  EXPECT_EQ(process.sync(file), 0);
  EXPECT_EQ(bits_apart(process.read(file, 0, 4096), original), 1U);
  EXPECT_FALSE(machine.flip_bit("/f", 4096));
  EXPECT_FALSE(machine.flip_bit("/g", 0));
}

TEST(SimFaults, LostTornAndMisdirectedWritesClaimSuccess) {
  const std::uint64_t seed = announce_seed();
  bool torn = false;
  bool other_place = false;
  for (unsigned run = 0; run < 50; ++run) {
    SimMachine machine(seed + run);
    Process process(machine);
    const File file = process.open("/f");
    process.write(file, 0, filled(64_KiB, 1));
    SimFaults faults;
    faults.lost_write = 1;
    machine.set_faults("/", faults);
    EXPECT_EQ(process.write(file, 0, filled(8192, 2)), 8192);
    EXPECT_EQ(process.read(file, 0, 64_KiB), filled(64_KiB, 1));

    faults.lost_write = 0;
    faults.torn_write = 1;
    machine.set_faults("/", faults);
    EXPECT_EQ(process.write(file, 0, filled(8192, 3)), 8192);
    const Bytes after_torn = process.read(file, 0, 8192);
    const auto fresh = std::count(after_torn.begin(), after_torn.end(), std::byte{3});
    torn |= fresh > 0 && fresh < 8192;

    faults.torn_write = 0;
    faults.misdirected_write = 1;
    machine.set_faults("/", faults);
    EXPECT_EQ(process.write(file, 0, filled(4096, 4)), 4096);
    const Bytes all = process.read(file, 0, 64_KiB);
    other_place |= std::count(all.begin() + 4096, all.end(), std::byte{4}) == 4096;
    EXPECT_EQ(std::count(all.begin(), all.begin() + 4096, std::byte{4}), 0);
  }
  EXPECT_TRUE(torn);
  EXPECT_TRUE(other_place);
}

}  // namespace
}  // namespace clouddisk
