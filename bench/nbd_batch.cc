// nbd_batch: an NBD client that asks in batches, for what one request costs a server when system
// calls don't count, and an empty server of the same kind as the ceiling.
//
//   nbd_batch --uri URI …        asks for --seconds, then prints one line of JSON
//   nbd_batch --serve SOCKET     prints READY and serves until SIGTERM or SIGINT
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "bench/batch_client.h"
#include "bench/export_client.h"
#include "bench/null_server.h"
#include "bench/socket_io.h"
#include "tools/net/quantity.h"

namespace clouddisk::bench {
namespace {

constexpr int kWrongUsage = 2;

int complain(const Error& error, int status) {
  std::fprintf(stderr, "nbd_batch: %s\n", error.message.c_str());
  return status;
}

int serve(const std::string& socket_path, std::uint64_t size_bytes) {
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  // Before there are threads, so that none of them takes the signal.
  ::pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  const Descriptor stop(::signalfd(-1, &ending, SFD_CLOEXEC));
  if (stop.get() < 0) return complain(fail_errno(errno, "signalfd"), 1);
  const auto listening = listen_unix(socket_path);
  if (!listening) return complain(listening.error(), 1);
  std::puts("READY");
  std::fflush(stdout);
  serve_null(listening->get(), size_bytes, stop.get());
  ::unlink(socket_path.c_str());
  return 0;
}

std::string as_json(const BatchReport& report, const BatchOptions& options) {
  const auto us = [](double nanoseconds) { return nanoseconds / 1000; };
  const auto percentile = [&](double fraction) {
    return us(static_cast<double>(report.latency.percentile_ns(fraction)));
  };
  const auto operations = static_cast<double>(report.operations);
  const auto per = [&](std::uint64_t calls) {
    return calls == 0 ? 0 : operations / static_cast<double>(calls);
  };
  const double iops = operations / report.seconds;
  return nlohmann::json{{"connections", options.connections},
                        {"depth", options.depth},
                        {"operations", report.operations},
                        {"seconds", report.seconds},
                        {"iops", iops},
                        {"bytes_per_second", iops * options.block_bytes},
                        {"latency_us",
                         {{"mean", us(report.latency.mean_ns())},
                          {"p50", percentile(0.50)},
                          {"p90", percentile(0.90)},
                          {"p99", percentile(0.99)},
                          {"p99.9", percentile(0.999)},
                          {"max", us(static_cast<double>(report.latency.max_ns()))}}},
                        {"operations_per_send", per(report.sends)},
                        {"operations_per_receive", per(report.receives)}}
      .dump();
}

CLI::Validator size_in(std::uint64_t& bytes) {
  return CLI::Validator(
      [&bytes](std::string& text) {
        auto parsed = parse_size(text);
        if (!parsed) return parsed.error().message;
        bytes = *parsed;
        return std::string();
      },
      "SIZE");
}

}  // namespace
}  // namespace clouddisk::bench

int main(int argc, char** argv) {
  using namespace clouddisk::bench;
  CLI::App app("nbd_batch: a batching NBD client for benchmarks, and an empty server");
  BatchOptions options;
  std::string serve_at;
  std::uint64_t size_bytes = std::uint64_t{20} << 30;
  std::string uri;
  std::string size_text;
  std::string span_text;
  std::string block_text;
  std::uint64_t block_bytes = options.block_bytes;
  auto* serves =
      app.add_option("--serve", serve_at, "Serve zeros on this unix socket instead of asking");
  app.add_option("--size", size_text, "Size of what is served; default 20G")
      ->check(size_in(size_bytes))
      ->needs(serves);
  app.add_option("--uri", uri, "The export to ask: nbd+unix:///NAME?socket=PATH")->excludes(serves);
  app.add_option("--load", options.load, "read or write, at random; default read")
      ->transform(CLI::CheckedTransformer(std::map<std::string, BatchOptions::Load>{
          {"read", BatchOptions::Load::kRead}, {"write", BatchOptions::Load::kWrite}}));
  app.add_flag("--fua", options.fua, "Each write has FUA");
  app.add_flag("--flush", options.flush_each,
               "Each write is followed by a flush; both count as one operation");
  app.add_option("--connections", options.connections, "NBD connections")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--depth", options.depth, "Operations in flight on each connection")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--block-size", block_text, "Bytes of a request; default 4K")
      ->check(size_in(block_bytes));
  app.add_option("--span", span_text,
                 "Use this much of the export, from its beginning; default all")
      ->check(size_in(options.span_bytes));
  app.add_option("--seconds", options.seconds, "How long")
      ->check(CLI::Range(0.01, 86400.0))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of offsets and content")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  if (!serve_at.empty()) return serve(serve_at, size_bytes);

  if (uri.empty()) {
    std::fputs("nbd_batch: give --uri or --serve; see --help\n", stderr);
    return kWrongUsage;
  }
  const auto place = parse_unix_uri(uri);
  if (!place) return complain(place.error(), kWrongUsage);
  options.socket_path = place->socket_path;
  options.export_name = place->name;
  options.block_bytes =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(block_bytes, UINT32_MAX));
  const auto report = run_batch(options);
  if (!report) {
    return complain(report.error(),
                    report.error().code == clouddisk::Errc::kInvalid ? kWrongUsage : 1);
  }
  std::puts(as_json(*report, options).c_str());
  return 0;
}
