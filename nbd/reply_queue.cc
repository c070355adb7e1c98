#include "nbd/reply_queue.h"

#include <algorithm>

namespace clouddisk::nbd {
namespace {

// Answers a send: each has up to two pieces, and the kernel takes 1024 at once.
constexpr std::size_t kAnswersMax = 512;
constexpr std::uint64_t kBytesMax = 4_MiB;  // Memory comes back as the parts are sent.

std::uint64_t size_of(const Outgoing& one) {
  return one.head.size + one.data.size() + one.status.size() + one.assembled_bytes;
}

}  // namespace

ReplyQueue::ReplyQueue(Ring& ring, Stream& stream, Shares shares)
    : stream_(stream), shares_(shares), changed_(ring) {}

void ReplyQueue::post(Outgoing outgoing) {
  ready_.push_back(std::move(outgoing));
  changed_.wake_all();
}

void ReplyQueue::close() {
  closed_ = true;
  changed_.wake_all();
}

Task<void> ReplyQueue::run() {
  while (true) {
    if (ready_.empty()) {
      if (closed_) co_return;
      co_await changed_.wait();
      continue;
    }
    batch_.swap(ready_);
    for (std::size_t first = 0; first < batch_.size();) {
      std::size_t last = first;
      std::uint64_t bytes = 0;
      while (last < batch_.size() && last - first < kAnswersMax && bytes < kBytesMax) {
        bytes += size_of(batch_[last++]);
      }
      co_await send_part(first, last);
      first = last;
    }
    batch_.clear();
  }
}

Task<void> ReplyQueue::send_part(std::size_t first, std::size_t last) {
  pieces_.clear();
  std::uint64_t size = 0;
  const auto add = [this, &size](const std::byte* data, std::size_t length) {
    if (length == 0) return;
    pieces_.push_back({const_cast<std::byte*>(data), length});
    size += length;
  };
  std::uint64_t payload = 0;
  std::uint64_t assembly = 0;
  std::uint64_t requests = 0;
  for (std::size_t i = first; i < last; ++i) {
    const Outgoing& one = batch_[i];
    add(one.head.bytes.data(), one.head.size);
    add(one.data.data(), one.data.size());
    add(one.status.data(), one.status.size());
    add(one.assembled.get(), one.assembled_bytes);
    payload += one.payload_held;
    assembly += one.assembly_held;
    if (one.ends_request) ++requests;
  }
  if (!broken_) {
    shares_.payload.client_owes(true);
    shares_.assembly.client_owes(true);
    const bool sent = co_await stream_.send(pieces_);
    shares_.payload.client_owes(false);
    shares_.assembly.client_owes(false);
    if (sent) {
      shares_.tally.bytes_sent += size;
    } else {
      broken_ = true;
      stream_.shutdown();  // The session may be waiting for the next request.
    }
  }
  for (std::size_t i = first; i < last; ++i) batch_[i] = Outgoing();
  shares_.payload.release(payload);
  shares_.assembly.release(assembly);
  if (requests > 0) shares_.requests.release(requests);
}

}  // namespace clouddisk::nbd
