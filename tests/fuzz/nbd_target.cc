// nbd_target.cc: a client of the NBD server that sends anything: the real handshake and session,
// over a stream in memory and a disk in memory.
//
// Input: two bytes of settings, then what the client sends. Bit 0: the export is read-only. Bit 1:
// the disk fails. Bits 2 and 3: without a handshake, straight to transmission with that framing
// (1 to 3). The second byte cuts what is sent into receives. Where replies are structured, they
// must be well-formed to the last byte.
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/ring/sim_ring.h"
#include "nbd/session.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/nbd/memory_device.h"

namespace clouddisk::fuzz {
namespace {

using namespace nbd;

// What the client sent, in pieces, and then its end. Keeps the answers.
class MemoryStream final : public Stream {
 public:
  MemoryStream(Ring& ring, Input sent, std::uint8_t cut, std::vector<std::byte>& answers)
      : ring_(ring), sent_(sent), cut_(cut), answers_(answers) {}

  Task<int> receive(std::span<std::byte> into) override {
    CHECK(!into.empty());
    co_await ring_.yield();
    if (over_ || sent_.empty()) co_return 0;
    const std::size_t most = cut_ == 0 ? into.size() : 1 + (step_++ * 31 + cut_) % (cut_ * 8U);
    const std::size_t count = std::min({most, into.size(), sent_.size()});
    std::memcpy(into.data(), sent_.data(), count);
    sent_ = sent_.subspan(count);
    co_return static_cast<int>(count);
  }
  Task<bool> send(std::vector<iovec>& pieces) override {
    co_await ring_.yield();
    if (over_) co_return false;
    for (const iovec& piece : pieces) {
      const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
      answers_.insert(answers_.end(), bytes, bytes + piece.iov_len);
    }
    co_return true;
  }
  Task<void> finish() override { co_return; }
  void shutdown() override { over_ = true; }
  TimePoint last_progress() const override { return ring_.now(); }
  void move_to(Ring&) override {}

 private:
  Ring& ring_;
  Input sent_;
  std::uint8_t cut_;
  std::size_t step_ = 0;
  std::vector<std::byte>& answers_;
  bool over_ = false;
};

class OneExport final : public Offer {
 public:
  explicit OneExport(ExportInfo info) : info_(std::move(info)) {}
  std::vector<ExportInfo> list() override { return {info_}; }
  Task<std::optional<ExportInfo>> find(std::string name) override {
    if (name == info_.name) co_return info_;
    co_return std::nullopt;
  }
  std::vector<std::string> contexts(const std::string&, std::string_view query,
                                    bool exact) override {
    if (query == kAllocationContext || (!exact && (query.empty() || query == "base:"))) {
      return {std::string(kAllocationContext)};
    }
    return {};
  }
  TlsPolicy tls() const override { return TlsPolicy::kOff; }
  Task<Result<std::unique_ptr<Stream>>> start_tls(std::unique_ptr<Stream>) override {
    co_return fail(Errc::kInvalid, "no TLS here");
  }

 private:
  ExportInfo info_;
};

// Every chunk has a known type, a length that is there, and data that fits it.
void check_chunks(Input answers, Framing framing) {
  while (!answers.empty()) {
    const bool extended = framing == Framing::kExtended;
    const std::size_t head = extended ? 32 : 20;
    CHECK(answers.size() >= head);
    const auto magic = load_be<std::uint32_t>(answers.data());
    CHECK(magic == (extended ? kExtendedChunkMagic : kChunkMagic));
    const std::uint64_t length = extended ? load_be<std::uint64_t>(answers.data() + 24)
                                          : load_be<std::uint32_t>(answers.data() + 16);
    CHECK(length <= answers.size() - head);
    switch (static_cast<ChunkType>(load_be<std::uint16_t>(answers.data() + 6))) {
      case ChunkType::kNone:
        CHECK(length == 0);
        break;
      case ChunkType::kOffsetData:
        CHECK(length > 8);
        break;
      case ChunkType::kOffsetHole:
        CHECK(length == 12);
        break;
      case ChunkType::kBlockStatus:
        CHECK(length % 8 == 4);
        break;
      case ChunkType::kBlockStatusExtended:
        CHECK(length % 16 == 8);
        break;
      case ChunkType::kError:
        CHECK(length >= 6);
        break;
      default:
        CHECK(false);
    }
    answers = answers.subspan(head + length);
  }
}

Task<void> converse(BlockDevice& device, Input sent, unsigned settings, std::uint8_t cut,
                    std::vector<std::byte>& answers) {
  std::unique_ptr<Stream> stream =
      std::make_unique<MemoryStream>(device.ring(), sent, cut, answers);
  Agreement agreement;
  agreement.export_name = "disk";
  if ((settings >> 2 & 3U) == 0) {
    ExportInfo info;
    info.name = "disk";
    info.description = "memory";
    info.id = 1;
    info.size_bytes = device.size_bytes();
    info.read_only = device.read_only();
    OneExport offer(info);
    auto agreed = co_await negotiate(stream, offer);
    if (!agreed) co_return;
    CHECK(stream != nullptr);
    agreement = *agreed;
    CHECK(agreement.export_name == "disk");
  } else {
    agreement.framing = static_cast<Framing>((settings >> 2 & 3U) - 1);
    agreement.contexts.push_back({1, std::string(kAllocationContext)});
  }
  std::vector<Session::OpenContext> contexts;
  for (const ContextChoice& choice : agreement.contexts) {
    Session::OpenContext open;
    open.id = choice.id;
    open.context = std::make_unique<AllocationContext>(device);
    contexts.push_back(std::move(open));
  }
  PayloadBudget payloads(device.ring(), 4_MiB, std::chrono::seconds(10));
  PayloadBudget assemblies(device.ring(), 2 * std::uint64_t{kPayloadMax}, std::chrono::seconds(10));
  const std::atomic<bool> stop{false};
  Counters counters;
  answers.clear();
  Session session({device, payloads, assemblies, stop, counters}, std::move(stream), agreement,
                  std::move(contexts));
  static_cast<void>(co_await session.run());
  CHECK(payloads.free_bytes() == payloads.size_bytes());
  CHECK(assemblies.free_bytes() == assemblies.size_bytes());
  if (agreement.framing != Framing::kSimple) check_chunks(answers, agreement.framing);
}

}  // namespace

FUZZ_TARGET(nbd) {
  Feed feed(input);
  const unsigned settings = feed.byte();
  const std::uint8_t cut = feed.byte();
  SimMachine machine(1);
  SimRing ring(machine);
  MemoryDevice::Options options;
  options.size_bytes = 128_KiB;
  options.read_only = (settings & 1U) != 0;
  options.pool_bytes = 6_MiB;
  MemoryDevice device(ring, options);
  if ((settings & 2U) != 0) device.fail_with(Errc::kIo);
  std::vector<std::byte> answers;
  ring.block_on(converse(device, feed.rest(), settings, cut, answers));
  CHECK(device.under_way() == 0);
  CHECK(device.buffers().used_bytes() == 0);
}

}  // namespace clouddisk::fuzz
