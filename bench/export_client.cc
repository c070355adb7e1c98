#include "bench/export_client.h"

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/base/bytes.h"
#include "nbd/protocol.h"

namespace clouddisk::bench {
namespace {

constexpr std::uint32_t kAnswerMax = 64U << 10;

struct Answer {
  nbd::OptionReply kind{};
  std::vector<std::byte> data;
};

Error left() {
  return fail(Errc::kIo, "the server left during the handshake");
}

std::vector<std::byte> go_option(const std::string& name) {
  std::vector<std::byte> bytes(4 + 8 + 4 + 4 + 4 + name.size() + 2);
  ByteWriter out(bytes);
  out.be(std::uint32_t{nbd::kFixedNewstyle | nbd::kNoZeroes});
  out.be(nbd::kOptionMagic);
  out.be(static_cast<std::uint32_t>(nbd::Option::kGo));
  out.be(static_cast<std::uint32_t>(4 + name.size() + 2));
  out.be(static_cast<std::uint32_t>(name.size()));
  out.bytes(as_bytes(name));
  out.be(std::uint16_t{0});  // no further questions
  return bytes;
}

Result<Answer> receive_answer(int socket) {
  std::array<std::byte, 20> head;
  if (!receive_all(socket, head)) return left();
  ByteReader in(head);
  const auto magic = in.be<std::uint64_t>();
  in.skip(4);  // the option: only one was asked
  Answer answer{static_cast<nbd::OptionReply>(in.be<std::uint32_t>()), {}};
  const auto length = in.be<std::uint32_t>();
  if (magic != nbd::kOptionReplyMagic || length > kAnswerMax) {
    return fail(Errc::kCorrupt, "the server's answer to NBD_OPT_GO is not NBD");
  }
  answer.data.resize(length);
  if (!receive_all(socket, answer.data)) return left();
  return answer;
}

}  // namespace

Result<OpenExport> open_export(const std::string& socket_path, const std::string& name) {
  auto socket = connect_unix(socket_path);
  if (!socket) return socket.error();
  OpenExport opened{std::move(*socket), 0, 0};
  const int number = opened.socket.get();
  std::array<std::byte, 18> greeting;
  if (!receive_all(number, greeting)) return left();
  ByteReader in(greeting);
  if (in.be<std::uint64_t>() != nbd::kInitMagic || in.be<std::uint64_t>() != nbd::kOptionMagic) {
    return fail(Errc::kCorrupt, "{} does not speak newstyle NBD", socket_path);
  }
  if (!send_all(number, go_option(name))) return left();
  while (true) {
    auto answer = receive_answer(number);
    if (!answer) return answer.error();
    if (answer->kind == nbd::OptionReply::kAck) return opened;
    if (answer->kind != nbd::OptionReply::kInfo) {
      return fail(Errc::kNotFound, "the server refuses export '{}' ({:#x}): {}", name,
                  static_cast<std::uint32_t>(answer->kind), as_text(answer->data));
    }
    ByteReader info(answer->data);
    if (info.be<std::uint16_t>() != static_cast<std::uint16_t>(nbd::Info::kExport)) continue;
    opened.size_bytes = info.be<std::uint64_t>();
    opened.flags = info.be<std::uint16_t>();
    if (!info.ok()) return fail(Errc::kCorrupt, "the server's description of the export is short");
  }
}

Result<ExportPlace> parse_unix_uri(const std::string& uri) {
  constexpr std::string_view kScheme = "nbd+unix:///";
  constexpr std::string_view kSocket = "?socket=";
  const auto query = uri.find(kSocket);
  if (!uri.starts_with(kScheme) || query == std::string::npos) {
    return fail(Errc::kInvalid, "'{}' is not of the form nbd+unix:///NAME?socket=PATH", uri);
  }
  return ExportPlace{uri.substr(query + kSocket.size()),
                     uri.substr(kScheme.size(), query - kScheme.size())};
}

}  // namespace clouddisk::bench
