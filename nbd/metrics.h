// metrics.h: what the server counts, over all its connections. Any thread reads; sessions add.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "nbd/protocol.h"

namespace clouddisk::nbd {

// Commands have the numbers of the protocol; what is unknown counts as the last.
inline constexpr std::size_t kCommandKinds = 9;
inline constexpr std::array<std::string_view, kCommandKinds> kCommandNames = {
    "read", "write", "disconnect", "flush", "trim", "cache", "zero", "block-status", "unknown"};
inline std::size_t command_kind(Command command) {
  return std::min(static_cast<std::size_t>(command), kCommandKinds - 1);
}

struct Counters {
  std::atomic<std::uint64_t> connections{0};  // now
  std::atomic<std::uint64_t> connections_total{0};
  std::atomic<std::uint64_t> refused{0};  // over the limit, or negotiation failed
  std::atomic<std::uint64_t> evicted{0};  // stalled while others waited for memory
  std::atomic<std::uint64_t> requests{0};
  std::array<std::atomic<std::uint64_t>, kCommandKinds> requests_by_command{};
  std::atomic<std::uint64_t> errors{0};  // requests answered with an error
  std::atomic<std::uint64_t> bytes_received{0};
  std::atomic<std::uint64_t> bytes_sent{0};
};

// A session counts here and publishes now and then: one atomic addition a batch, not a request.
struct Tally {
  std::array<std::uint64_t, kCommandKinds> requests{};
  std::uint64_t errors = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;

  void publish(Counters& counters) {
    std::uint64_t total = 0;
    for (std::size_t kind = 0; kind < kCommandKinds; ++kind) {
      if (requests[kind] == 0) continue;
      total += requests[kind];
      add(counters.requests_by_command[kind], requests[kind]);
    }
    if (total > 0) add(counters.requests, total);
    if (errors > 0) add(counters.errors, errors);
    if (bytes_received > 0) add(counters.bytes_received, bytes_received);
    if (bytes_sent > 0) add(counters.bytes_sent, bytes_sent);
    *this = {};
  }

 private:
  static void add(std::atomic<std::uint64_t>& to, std::uint64_t count) {
    to.fetch_add(count, std::memory_order_relaxed);
  }
};

}  // namespace clouddisk::nbd
