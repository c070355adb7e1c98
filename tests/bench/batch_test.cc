// The batching client and the empty server of the benchmarks, against each other and against what
// would make a figure wrong.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "bench/batch_client.h"
#include "bench/export_client.h"
#include "bench/null_server.h"
#include "bench/socket_io.h"
#include "engine/base/bytes.h"
#include "nbd/protocol.h"

namespace clouddisk::bench {
namespace {

constexpr std::uint64_t kSize = std::uint64_t{64} << 20;

class BatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "batch-" + std::to_string(::getpid()) + ".sock";
    auto listening = listen_unix(path_);
    ASSERT_TRUE(listening) << listening.error().message;
    listening_ = std::move(*listening);
    stop_ = Descriptor(::eventfd(0, EFD_CLOEXEC));
    server_ = std::thread([this] { serve_null(listening_.get(), kSize, stop_.get()); });
  }
  void TearDown() override {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(stop_.get(), &one, sizeof one), ssize_t{sizeof one});
    if (server_.joinable()) server_.join();
    std::filesystem::remove(path_);
  }

  BatchOptions options() const {
    BatchOptions options;
    options.socket_path = path_;
    options.seconds = 0.05;
    return options;
  }

  std::string path_;
  Descriptor listening_;
  Descriptor stop_;
  std::thread server_;
};

TEST_F(BatchTest, EveryLoadRunsAndItsCountsAgree) {
  struct Row {
    const char* name;
    BatchOptions::Load load;
    bool fua;
    bool flush;
    unsigned connections;
    unsigned depth;
    std::uint32_t block;
  };
  using enum BatchOptions::Load;
  for (const Row& row :
       {Row{"reads", kRead, false, false, 1, 64, 4096},
        Row{"two connections", kRead, false, false, 2, 16, 4096},
        Row{"more than one send holds", kWrite, false, false, 1, 700, 512},
        Row{"writes beyond the socket's buffer", kWrite, false, false, 2, 256, 4096},
        Row{"large reads", kRead, false, false, 1, 4, 3U << 20},
        Row{"FUA", kWrite, true, false, 1, 1, 4096},
        Row{"a flush after each write", kWrite, false, true, 1, 8, 4096}}) {
    BatchOptions wanted = options();
    wanted.load = row.load;
    wanted.fua = row.fua;
    wanted.flush_each = row.flush;
    wanted.connections = row.connections;
    wanted.depth = row.depth;
    wanted.block_bytes = row.block;
    const auto report = run_batch(wanted);
    ASSERT_TRUE(report) << row.name << ": " << report.error().message;
    EXPECT_GT(report->operations, 0U) << row.name;
    EXPECT_EQ(report->latency.count(), report->operations) << row.name;
    EXPECT_GE(report->seconds, wanted.seconds) << row.name;
  }
}

TEST_F(BatchTest, ManyRequestsShareASendAndAReceive) {
  const auto report = run_batch(options());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_LT(report->sends, report->operations / 2);
  EXPECT_LT(report->receives, report->operations / 2);
}

TEST_F(BatchTest, WhatTheExportDoesNotHaveIsRefused) {
  BatchOptions wanted = options();
  wanted.span_bytes = 2 * kSize;
  auto report = run_batch(wanted);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Errc::kInvalid);
  wanted = options();
  wanted.flush_each = true;  // of reads
  report = run_batch(wanted);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Errc::kInvalid);
}

TEST_F(BatchTest, TheEmptyServerAnswersInOrderOfTheProtocol) {
  auto opened = open_export(path_, "anything");
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->size_bytes, kSize);
  EXPECT_NE(opened->flags & nbd::kSendFua, 0);
  // A read of 8 bytes and one past the end, in one send, and the second cut in two.
  std::array<std::byte, 2 * nbd::kRequestSize> bytes;
  ByteWriter out(bytes);
  for (const std::uint64_t offset : {std::uint64_t{16}, kSize}) {
    out.be(nbd::kRequestMagic);
    out.be(std::uint16_t{0});
    out.be(static_cast<std::uint16_t>(nbd::Command::kRead));
    out.be(offset + 1);  // the cookie
    out.be(offset);
    out.be(std::uint32_t{8});
  }
  const int socket = opened->socket.get();
  ASSERT_TRUE(send_all(socket, std::span(bytes).first(40)));
  ASSERT_TRUE(send_all(socket, std::span(bytes).subspan(40)));
  std::array<std::byte, 16 + 8 + 16> answer;
  answer.fill(std::byte{0xff});
  ASSERT_TRUE(receive_all(socket, answer));
  ByteReader in(answer);
  EXPECT_EQ(in.be<std::uint32_t>(), nbd::kSimpleReplyMagic);
  EXPECT_EQ(in.be<std::uint32_t>(), 0U);
  EXPECT_EQ(in.be<std::uint64_t>(), 17U);
  EXPECT_EQ(in.be<std::uint64_t>(), 0U) << "the data";
  EXPECT_EQ(in.be<std::uint32_t>(), nbd::kSimpleReplyMagic);
  EXPECT_EQ(in.be<std::uint32_t>(), static_cast<std::uint32_t>(nbd::WireError::kInvalid));
  EXPECT_EQ(in.be<std::uint64_t>(), kSize + 1);
}

TEST(LatencyHistogram, PercentilesAreExactToABucketsWidth) {
  LatencyHistogram latency;
  EXPECT_EQ(latency.percentile_ns(0.5), 0U);
  for (std::uint64_t value = 1; value <= 100'000; ++value) latency.add(value * 1000);
  EXPECT_EQ(latency.count(), 100'000U);
  EXPECT_NEAR(latency.mean_ns(), 50'000'500, 1);
  for (const double fraction : {0.01, 0.5, 0.99, 0.999}) {
    const double exact = fraction * 1e8;
    EXPECT_NEAR(static_cast<double>(latency.percentile_ns(fraction)), exact, exact / 60);
  }
  EXPECT_EQ(latency.percentile_ns(1), 100'000'000U);
  latency.add(UINT64_MAX);
  EXPECT_EQ(latency.percentile_ns(1), UINT64_MAX);
}

TEST(ParseUnixUri, TakesWhatAttachPrints) {
  const auto place = parse_unix_uri("nbd+unix:///d-1?socket=/tmp/x.sock");
  ASSERT_TRUE(place);
  EXPECT_EQ(place->name, "d-1");
  EXPECT_EQ(place->socket_path, "/tmp/x.sock");
  EXPECT_FALSE(parse_unix_uri("nbd://localhost/d-1"));
}

}  // namespace
}  // namespace clouddisk::bench
