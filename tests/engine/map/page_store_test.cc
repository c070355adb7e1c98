// The records of a map's index, as they may be after damage that their checksums don't tell.
#include "engine/map/page_store.h"

#include <gtest/gtest.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/ring/sim_kv.h"
#include "engine/ring/sim_machine.h"

namespace clouddisk {
namespace {

// Found by fuzzing: the list's length was compared with what is left, less one, which for less than
// nothing left is a great deal.
TEST(PageStoreRecords, ACheckpointThatEndsBeforeItsViewsIsDamage) {
  const std::byte key{'c'};
  for (std::size_t rest = 0; rest < 8; ++rest) {
    std::vector<std::byte> value(9 + 7 * 8);
    value[8] = std::byte{1};
    value.resize(value.size() + 8, std::byte{0xff});  // how many views: 2^64 - 1
    value.resize(value.size() + rest);
    store_le(value.data(), checksum64(std::span(value).subspan(8), checksum64(std::span(&key, 1))));
    SimMachine machine(1);
    auto kv = SimKv::open(machine, "/", KvOptions{});
    ASSERT_TRUE(kv) << kv.error().message;
    auto txn = (*kv)->write();
    ASSERT_TRUE(txn);
    ASSERT_TRUE((*txn)->put(std::span(&key, 1), value));
    ASSERT_TRUE((*txn)->commit());
    PageStore store(std::move(*kv));
    auto checkpoint = store.load_checkpoint();
    ASSERT_FALSE(checkpoint) << rest;
    EXPECT_EQ(checkpoint.error().code, Errc::kCorrupt);
  }
}

}  // namespace
}  // namespace clouddisk
