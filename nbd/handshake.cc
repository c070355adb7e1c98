#include "nbd/handshake.h"

#include <algorithm>
#include <array>

#include "engine/base/bytes.h"

namespace clouddisk::nbd {
namespace {

constexpr std::uint32_t kOptionLengthMax = 64 * 1024;
constexpr unsigned kOptionsMax = 128;

class Negotiation {
 public:
  Negotiation(std::unique_ptr<Stream>& stream, const Offer& offer)
      : stream_(stream), offer_(offer) {}
  Task<Result<Agreement>> run();

 private:
  Task<Result<void>> greet();
  Task<Result<bool>> handle(std::uint32_t option, std::span<const std::byte> data);
  Task<Result<bool>> export_name(std::span<const std::byte> data);
  Task<Result<bool>> info_or_go(Option option, std::span<const std::byte> data);
  Task<Result<bool>> list();
  Task<Result<bool>> start_tls();
  Task<Result<bool>> meta_context(Option option, std::span<const std::byte> data);
  Task<Result<bool>> reply(Option option, OptionReply reply, std::span<const std::byte> data = {});
  Task<Result<bool>> reply_text(Option option, OptionReply kind, std::string_view text);

  std::unique_ptr<Stream>& stream_;
  const Offer& offer_;
  Agreement agreement_;
  std::string context_export_;
  bool no_zeroes_ = false;
  bool encrypted_ = false;
};

Error left() {
  return fail(Errc::kShutdown, "the client left during negotiation");
}

Task<Result<void>> Negotiation::greet() {
  std::array<std::byte, 18> greeting;
  ByteWriter out(greeting);
  out.be(kInitMagic);
  out.be(kOptionMagic);
  out.be(static_cast<std::uint16_t>(kFixedNewstyle | kNoZeroes));
  if (!co_await stream_->send_bytes(greeting)) co_return left();
  std::array<std::byte, 4> answer;
  if (!co_await stream_->receive_all(answer)) co_return left();
  const auto flags = load_be<std::uint32_t>(answer.data());
  if ((flags & ~std::uint32_t{kFixedNewstyle | kNoZeroes}) != 0) {
    co_return fail(Errc::kInvalid, "unknown client flags {:#x}", flags);
  }
  no_zeroes_ = (flags & kNoZeroes) != 0;
  co_return Result<void>{};
}

Task<Result<Agreement>> Negotiation::run() {
  if (auto greeted = co_await greet(); !greeted) co_return greeted.error();
  std::vector<std::byte> data;
  for (unsigned count = 0; count < kOptionsMax; ++count) {
    std::array<std::byte, 16> head;
    if (!co_await stream_->receive_all(head)) co_return left();
    ByteReader in(head);
    if (in.be<std::uint64_t>() != kOptionMagic) {
      co_return fail(Errc::kInvalid, "garbage where an option was expected");
    }
    const auto option = in.be<std::uint32_t>();
    const auto length = in.be<std::uint32_t>();
    if (length > kOptionLengthMax) {
      co_return fail(Errc::kInvalid, "option {} of {} bytes", option, length);
    }
    data.resize(length);
    if (!co_await stream_->receive_all(data)) co_return left();
    auto done = co_await handle(option, data);
    if (!done) co_return done.error();
    if (*done) co_return agreement_;
  }
  co_return fail(Errc::kInvalid, "more than {} options", kOptionsMax);
}

// True: negotiation is over and transmission begins.
Task<Result<bool>> Negotiation::handle(std::uint32_t number, std::span<const std::byte> data) {
  const auto option = static_cast<Option>(number);
  if (offer_.tls == TlsPolicy::kRequired && !encrypted_ && option != Option::kStartTls &&
      option != Option::kAbort) {
    if (option == Option::kExportName) co_return fail(Errc::kPermission, "TLS is required");
    co_return co_await reply_text(option, OptionReply::kTlsRequired, "this server requires TLS");
  }
  switch (option) {
    case Option::kExportName:
      co_return co_await export_name(data);
    case Option::kAbort: {
      auto sent = co_await reply(option, OptionReply::kAck);
      static_cast<void>(sent);
      co_return left();
    }
    case Option::kList:
      if (!data.empty()) {
        co_return co_await reply_text(option, OptionReply::kInvalid, "LIST takes no data");
      }
      co_return co_await list();
    case Option::kStartTls:
      if (!data.empty()) {
        co_return co_await reply_text(option, OptionReply::kInvalid, "STARTTLS takes no data");
      }
      co_return co_await start_tls();
    case Option::kInfo:
    case Option::kGo:
      co_return co_await info_or_go(option, data);
    case Option::kStructuredReply:
      if (!data.empty()) {
        co_return co_await reply_text(option, OptionReply::kInvalid, "the option takes no data");
      }
      if (agreement_.framing == Framing::kSimple) agreement_.framing = Framing::kStructured;
      co_return co_await reply(option, OptionReply::kAck);
    case Option::kExtendedHeaders:
      if (!data.empty()) {
        co_return co_await reply_text(option, OptionReply::kInvalid, "the option takes no data");
      }
      agreement_.framing = Framing::kExtended;
      co_return co_await reply(option, OptionReply::kAck);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      co_return co_await meta_context(option, data);
  }
  co_return co_await reply_text(option, OptionReply::kUnsupported, "unknown option");
}

Task<Result<bool>> Negotiation::reply(Option option, OptionReply kind,
                                      std::span<const std::byte> data) {
  const auto bytes = encode_option_reply(static_cast<std::uint32_t>(option), kind, data);
  if (!co_await stream_->send_bytes(bytes)) co_return left();
  co_return false;
}

Task<Result<bool>> Negotiation::reply_text(Option option, OptionReply kind, std::string_view text) {
  co_return co_await reply(option, kind, as_bytes(text));
}

Task<Result<bool>> Negotiation::export_name(std::span<const std::byte> data) {
  agreement_.export_name = std::string(as_text(data));
  const auto found = offer_.find(agreement_.export_name);
  // There is no way to refuse here but to hang up.
  if (!found) co_return fail(Errc::kNotFound, "no export '{}'", agreement_.export_name);
  std::vector<std::byte> answer(no_zeroes_ ? 10 : 134);
  ByteWriter out(answer);
  out.be(found->size_bytes);
  out.be(found->flags);
  out.zeros(answer.size() - out.position());
  if (!co_await stream_->send_bytes(answer)) co_return left();
  if (context_export_ != agreement_.export_name) agreement_.allocation_context = false;
  co_return true;
}

Task<Result<bool>> Negotiation::info_or_go(Option option, std::span<const std::byte> data) {
  auto query = decode_export_query(data);
  if (!query) {
    co_return co_await reply_text(option, OptionReply::kInvalid, query.error().message);
  }
  const auto found = offer_.find(query->name);
  if (!found) {
    co_return co_await reply_text(option, OptionReply::kUnknown,
                                  "no such export; a disk is exported while it is attached");
  }
  std::array<std::byte, 12> export_info;
  ByteWriter out(export_info);
  out.be(static_cast<std::uint16_t>(Info::kExport));
  out.be(found->size_bytes);
  out.be(found->flags);
  if (auto sent = co_await reply(option, OptionReply::kInfo, export_info); !sent) co_return sent;
  std::array<std::byte, 14> sizes;
  ByteWriter size_out(sizes);
  size_out.be(static_cast<std::uint16_t>(Info::kBlockSize));
  size_out.be(kBlockSizeMin);
  size_out.be(kBlockSizePreferred);
  size_out.be(kPayloadMax);
  if (auto sent = co_await reply(option, OptionReply::kInfo, sizes); !sent) co_return sent;
  for (const std::uint16_t info : query->infos) {
    std::string text;
    if (info == static_cast<std::uint16_t>(Info::kName)) {
      text = found->name;
    } else if (info == static_cast<std::uint16_t>(Info::kDescription)) {
      text = found->description;
    } else {
      continue;
    }
    std::vector<std::byte> answer(2 + text.size());
    ByteWriter text_out(answer);
    text_out.be(info);
    text_out.bytes(as_bytes(text));
    if (auto sent = co_await reply(option, OptionReply::kInfo, answer); !sent) co_return sent;
  }
  if (auto sent = co_await reply(option, OptionReply::kAck); !sent) co_return sent;
  if (option == Option::kInfo) co_return false;
  agreement_.export_name = query->name;
  if (context_export_ != query->name) agreement_.allocation_context = false;
  co_return true;
}

Task<Result<bool>> Negotiation::list() {
  const auto exports = offer_.list();
  for (const ExportInfo& one : exports) {
    std::vector<std::byte> answer(4 + one.name.size() + one.description.size());
    ByteWriter out(answer);
    out.be(static_cast<std::uint32_t>(one.name.size()));
    out.bytes(as_bytes(one.name));
    out.bytes(as_bytes(one.description));
    if (auto sent = co_await reply(Option::kList, OptionReply::kServer, answer); !sent) {
      co_return sent;
    }
  }
  co_return co_await reply(Option::kList, OptionReply::kAck);
}

Task<Result<bool>> Negotiation::start_tls() {
  if (offer_.tls == TlsPolicy::kOff) {
    co_return co_await reply_text(Option::kStartTls, OptionReply::kPolicy,
                                  "this server has no TLS credentials");
  }
  if (encrypted_) {
    co_return co_await reply_text(Option::kStartTls, OptionReply::kInvalid, "TLS is on already");
  }
  if (auto sent = co_await reply(Option::kStartTls, OptionReply::kAck); !sent) co_return sent;
  auto secure = co_await offer_.start_tls();
  if (!secure) co_return secure.error();
  stream_ = std::move(*secure);
  encrypted_ = true;
  // What was agreed in the clear does not count.
  agreement_ = Agreement{};
  context_export_.clear();
  co_return false;
}

Task<Result<bool>> Negotiation::meta_context(Option option, std::span<const std::byte> data) {
  auto query = decode_context_query(data);
  if (!query) {
    co_return co_await reply_text(option, OptionReply::kInvalid, query.error().message);
  }
  if (agreement_.framing == Framing::kSimple) {
    co_return co_await reply_text(option, OptionReply::kInvalid,
                                  "structured replies must be negotiated first");
  }
  if (!offer_.find(query->name)) {
    co_return co_await reply_text(option, OptionReply::kUnknown, "no such export");
  }
  const bool set = option == Option::kSetMetaContext;
  const auto wanted = [&query](std::string_view text) {
    return std::find(query->queries.begin(), query->queries.end(), text) != query->queries.end();
  };
  // Listing also takes nothing for everything, and a bare namespace for all of it.
  const bool all = !set && (query->queries.empty() || wanted("base:"));
  const bool allocation = all || wanted(kAllocationContext);
  if (allocation) {
    std::vector<std::byte> answer(4 + kAllocationContext.size());
    ByteWriter out(answer);
    out.be(set ? kAllocationId : std::uint32_t{0});
    out.bytes(as_bytes(kAllocationContext));
    if (auto sent = co_await reply(option, OptionReply::kMetaContext, answer); !sent)
      co_return sent;
  }
  if (set) {
    agreement_.allocation_context = allocation;
    context_export_ = query->name;
  }
  co_return co_await reply(option, OptionReply::kAck);
}

}  // namespace

std::uint16_t transmission_flags(bool read_only) {
  std::uint16_t flags = kHasFlags | kSendFlush | kSendFua | kSendDf | kCanMultiConn | kSendCache;
  if (read_only) return flags | kReadOnly;
  return flags | kSendTrim | kSendWriteZeroes | kSendFastZero;
}

Task<Result<Agreement>> negotiate(std::unique_ptr<Stream>& stream, const Offer& offer) {
  Negotiation negotiation(stream, offer);
  co_return co_await negotiation.run();
}

}  // namespace clouddisk::nbd
