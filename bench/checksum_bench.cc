// What the checksum of a block costs: it is taken once a write and checked on every read.
#include <benchmark/benchmark.h>

#include <vector>

#include "engine/base/checksum.h"
#include "engine/base/random.h"
#include "engine/base/units.h"

namespace clouddisk {
namespace {

void BM_Checksum(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  Random random(1);
  std::vector<std::byte> data(size);
  for (std::byte& byte : data) byte = static_cast<std::byte>(random.next());
  for (auto _ : state) benchmark::DoNotOptimize(checksum64(data));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Checksum)->Arg(512)->Arg(kBlockSize)->Arg(1_MiB);

}  // namespace
}  // namespace clouddisk

BENCHMARK_MAIN();
