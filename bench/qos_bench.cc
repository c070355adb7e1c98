// What the throttle costs a request: alone, and between coroutines.
#include <benchmark/benchmark.h>

#include "engine/qos/throttle.h"

namespace clouddisk {
namespace {

// The decision for a request that has credit, with both limits set.
void BM_ThrottleAdmit(benchmark::State& state) {
  TimePoint now{std::chrono::seconds(1)};
  Throttle throttle({1'000'000, 4'000 * 1_MiB}, now);
  const IoCost cost{1, 4_KiB};
  for (auto _ : state) {
    now += std::chrono::microseconds(1);
    benchmark::DoNotOptimize(throttle.admit(cost, now, now));
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(BM_ThrottleAdmit);

// The decision for a request that has to wait.
void BM_ThrottleRefuse(benchmark::State& state) {
  const TimePoint now{std::chrono::seconds(1)};
  Throttle throttle({1'000, 0}, now);
  const IoCost cost{1, 4_KiB};
  while (throttle.admit(cost, now, now)) {
  }
  for (auto _ : state) benchmark::DoNotOptimize(throttle.admit(cost, now, now));
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(BM_ThrottleRefuse);

}  // namespace
}  // namespace clouddisk

BENCHMARK_MAIN();
