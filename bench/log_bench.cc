// What it costs to encode and decode the descriptor of a batch, by the number of its writes.
#include <benchmark/benchmark.h>

#include <vector>

#include "engine/log/segment_format.h"

namespace clouddisk {
namespace {

const DiskTag kDisk = disk_tag("d-bench");

// `writes` writes of one block each.
Batch batch_of(std::int64_t writes) {
  Batch batch;
  batch.segment = SegmentSeq(7);
  batch.block = kFirstBatchBlock;
  batch.batch = BatchSeq(1000);
  batch.parent = 0x1234;
  batch.epoch = Epoch(3);
  batch.durable = LogPosition{SegmentSeq(6), 100, BatchSeq(990), 0x99};
  batch.payload_blocks = static_cast<std::uint32_t>(writes);
  batch.descriptor_blocks =
      descriptor_blocks_for(static_cast<std::size_t>(writes), batch.payload_blocks);
  for (std::int64_t i = 0; i < writes; ++i) {
    LogEntry entry;
    entry.lba = Lba(static_cast<std::uint64_t>(i * 7919));
    entry.count = 1;
    entry.write = WriteSeq(static_cast<std::uint64_t>(5000 + i));
    entry.epoch = batch.epoch;
    entry.block = batch.payload_start() + static_cast<std::uint32_t>(i);
    batch.entries.push_back(entry);
    batch.checksums.push_back(static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15);
  }
  return batch;
}

void BM_EncodeBatch(benchmark::State& state) {
  Batch batch = batch_of(state.range(0));
  std::vector<std::byte> descriptor(batch.descriptor_blocks * kBlockSize);
  for (auto _ : state) {
    encode_descriptor(batch, kDisk, descriptor);
    benchmark::DoNotOptimize(descriptor.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_EncodeBatch)->Arg(1)->Arg(16)->Arg(64)->Arg(256);

void BM_DecodeBatch(benchmark::State& state) {
  Batch batch = batch_of(state.range(0));
  std::vector<std::byte> descriptor(batch.descriptor_blocks * kBlockSize);
  encode_descriptor(batch, kDisk, descriptor);
  for (auto _ : state) {
    std::uint32_t needed = 0;
    auto decoded = decode_descriptor(descriptor, kDisk, batch.segment, batch.block, &needed);
    if (!decoded) return state.SkipWithError("the batch does not decode");
    benchmark::DoNotOptimize(decoded->entries.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_DecodeBatch)->Arg(1)->Arg(16)->Arg(64)->Arg(256);

}  // namespace
}  // namespace clouddisk

BENCHMARK_MAIN();
