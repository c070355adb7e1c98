#include "nbd/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <climits>

namespace clouddisk::nbd {

Task<bool> Stream::receive_all(std::span<std::byte> into) {
  while (!into.empty()) {
    const int got = co_await receive(into);
    if (got <= 0) co_return false;
    into = into.subspan(static_cast<std::size_t>(got));
  }
  co_return true;
}

Task<bool> Stream::send_bytes(std::span<const std::byte> bytes) {
  std::vector<iovec> pieces;
  pieces.push_back({const_cast<std::byte*>(bytes.data()), bytes.size()});
  co_return co_await send(pieces);
}

Task<int> PlainStream::receive(std::span<std::byte> into) {
  while (true) {
    const int got = co_await ring_->receive(socket_, into);
    if (got == -EINTR) continue;
    if (got > 0) progress_ = ring_->now();
    co_return got;
  }
}

Task<bool> PlainStream::send(std::vector<iovec>& pieces) {
  std::size_t first = 0;
  while (first < pieces.size()) {
    const std::size_t count = std::min<std::size_t>(pieces.size() - first, IOV_MAX);
    const int sent = co_await ring_->send(socket_, std::span(pieces).subspan(first, count));
    if (sent == -EINTR) continue;
    if (sent <= 0) co_return false;
    progress_ = ring_->now();
    auto left = static_cast<std::size_t>(sent);
    while (first < pieces.size() && left >= pieces[first].iov_len) {
      left -= pieces[first].iov_len;
      ++first;
    }
    if (left > 0) {
      pieces[first].iov_base = static_cast<std::byte*>(pieces[first].iov_base) + left;
      pieces[first].iov_len -= left;
    }
  }
  co_return true;
}

Task<void> PlainStream::finish() {
  co_return;
}

void PlainStream::shutdown() {
  ::shutdown(socket_, SHUT_RDWR);
}

}  // namespace clouddisk::nbd
