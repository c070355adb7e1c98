// What one request costs the NBD layer in parsing, judging and answering, without any I/O.
#include <benchmark/benchmark.h>

#include <array>

#include "engine/base/bytes.h"
#include "nbd/protocol.h"

namespace clouddisk::nbd {
namespace {

std::array<std::byte, kExtendedRequestSize> wire_request(Framing framing) {
  std::array<std::byte, kExtendedRequestSize> bytes{};
  ByteWriter out(bytes);
  const bool extended = framing == Framing::kExtended;
  out.be(extended ? kExtendedRequestMagic : kRequestMagic);
  out.be(std::uint16_t{0});
  out.be(static_cast<std::uint16_t>(Command::kRead));
  out.be(std::uint64_t{42});
  out.be(std::uint64_t{1_GiB});
  if (extended) {
    out.be(std::uint64_t{4_KiB});
  } else {
    out.be(std::uint32_t{4_KiB});
  }
  return bytes;
}

void BM_ParseRequest(benchmark::State& state) {
  const auto framing = static_cast<Framing>(state.range(0));
  const auto bytes = wire_request(framing);
  const RequestRules rules{40_GiB, false, framing, kBlockSizeMin};
  for (auto _ : state) {
    auto request = decode_request(std::span(bytes).first(request_size(framing)), framing);
    if (!request) return state.SkipWithError("the request does not decode");
    benchmark::DoNotOptimize(check_request(*request, rules));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_ParseRequest)
    ->ArgName("framing")
    ->Arg(static_cast<int>(Framing::kSimple))
    ->Arg(static_cast<int>(Framing::kExtended));

void BM_EncodeReply(benchmark::State& state) {
  const auto framing = static_cast<Framing>(state.range(0));
  Request request;
  request.cookie = 42;
  request.offset = 1_GiB;
  request.length = 4_KiB;
  for (auto _ : state) {
    benchmark::DoNotOptimize(encode_data_head(framing, request, request.offset, 4_KiB, true));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_EncodeReply)
    ->ArgName("framing")
    ->Arg(static_cast<int>(Framing::kSimple))
    ->Arg(static_cast<int>(Framing::kStructured))
    ->Arg(static_cast<int>(Framing::kExtended));

}  // namespace
}  // namespace clouddisk::nbd

BENCHMARK_MAIN();
