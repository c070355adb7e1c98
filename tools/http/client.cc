#include "tools/http/client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

namespace clouddisk {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kAnswerBytesMax = 64 * 1024 * 1024;

Result<void> wait_for(int socket, short events, Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  pollfd wait{socket, events, 0};
  const int ready = ::poll(&wait, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
  if (ready < 0 && errno != EINTR) return fail_errno(errno, "poll");
  if (ready == 0) return fail(Errc::kTimedOut, "no answer in time");
  return {};
}

Result<void> send_all(int socket, std::string_view bytes, Clock::time_point deadline) {
  while (!bytes.empty()) {
    if (auto ready = wait_for(socket, POLLOUT, deadline); !ready) return ready.error();
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
      return fail_errno(errno, "send");
    }
  }
  return {};
}

// The number of body bytes that the head announces; nothing: until the connection ends.
std::optional<std::size_t> announced_length(std::string_view head) {
  constexpr std::string_view kName = "content-length:";
  while (!head.empty()) {
    const std::string_view line = head.substr(0, head.find("\r\n"));
    head.remove_prefix(std::min(line.size() + 2, head.size()));
    if (line.size() < kName.size()) continue;
    const bool is_length = std::equal(kName.begin(), kName.end(), line.begin(), [](char a, char b) {
      return a == (b >= 'A' && b <= 'Z' ? b + 32 : b);
    });
    if (!is_length) continue;
    std::string_view digits = line.substr(kName.size());
    digits.remove_prefix(std::min(digits.find_first_not_of(' '), digits.size()));
    std::size_t length = 0;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (parsed.ec == std::errc{}) return length;
  }
  return std::nullopt;
}

Result<std::string> receive_all(int socket, Clock::time_point deadline) {
  std::string answer;
  std::optional<std::size_t> wanted;
  std::array<char, 64 * 1024> chunk;
  while (!wanted || answer.size() < *wanted) {
    if (auto ready = wait_for(socket, POLLIN, deadline); !ready) return ready.error();
    const ssize_t received = ::recv(socket, chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (received == 0) break;
    if (received < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      return fail_errno(errno, "receive");
    }
    answer.append(chunk.data(), static_cast<std::size_t>(received));
    if (answer.size() > kAnswerBytesMax) return fail(Errc::kLimit, "the answer is too large");
    const auto end = answer.find("\r\n\r\n");
    if (!wanted && end != std::string::npos) {
      if (auto length = announced_length(std::string_view(answer).substr(0, end))) {
        wanted = end + 4 + *length;
      }
    }
  }
  if (wanted && answer.size() < *wanted) {
    return fail(Errc::kIo, "the connection ended in the middle of the answer");
  }
  return answer;
}

Result<HttpAnswer> exchange(const Address& address, const std::string& request,
                            std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  auto socket = connect_to(address, timeout);
  if (!socket) return socket.error();
  if (auto sent = send_all(socket->fd(), request, deadline); !sent) return sent.error();
  auto raw = receive_all(socket->fd(), deadline);
  if (!raw) return raw.error();
  const std::string_view text = *raw;
  const auto head_end = text.find("\r\n\r\n");
  HttpAnswer answer;
  if (head_end == std::string_view::npos || !text.starts_with("HTTP/1.") || text.size() < 12 ||
      std::from_chars(text.data() + 9, text.data() + 12, answer.status).ec != std::errc{}) {
    return fail(Errc::kIo, "{} does not answer in HTTP", address.text());
  }
  answer.body = text.substr(head_end + 4);
  return answer;
}

}  // namespace

Result<HttpAnswer> http_post(const Address& address, const std::string& path,
                             const std::string& form, std::chrono::milliseconds timeout) {
  return exchange(address,
                  fmt::format("POST {} HTTP/1.1\r\nHost: clouddisk\r\nContent-Type: "
                              "application/x-www-form-urlencoded\r\nContent-Length: "
                              "{}\r\nConnection: close\r\n\r\n{}",
                              path, form.size(), form),
                  timeout);
}

Result<HttpAnswer> http_get(const Address& address, const std::string& path,
                            std::chrono::milliseconds timeout) {
  return exchange(
      address, fmt::format("GET {} HTTP/1.1\r\nHost: clouddisk\r\nConnection: close\r\n\r\n", path),
      timeout);
}

}  // namespace clouddisk
