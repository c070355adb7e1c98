#include "nbd/handshake.h"

#include <algorithm>
#include <array>

#include "engine/base/bytes.h"

namespace clouddisk::nbd {
namespace {

constexpr std::uint32_t kOptionLengthMax = 64 * 1024;
constexpr std::uint32_t kOptionSkipMax = 1024 * 1024;  // longer: hang up rather than read it
constexpr unsigned kOptionsMax = 4096;                 // `qemu-nbd --list` asks about each export
constexpr std::size_t kContextsMax = 16;

class Negotiation {
 public:
  Negotiation(std::unique_ptr<Stream>& stream, Offer& offer) : stream_(stream), offer_(offer) {}
  Task<Result<Agreement>> run();

 private:
  // False: negotiation goes on. True: it is over and transmission begins.
  using Over = Result<bool>;

  Task<Result<void>> greet();
  Task<Over> take_option(std::uint32_t option, std::uint32_t length);
  Task<Over> handle(Option option, std::span<const std::byte> data);
  Task<Over> export_name(std::span<const std::byte> data);
  Task<Over> info_or_go(Option option, std::span<const std::byte> data);
  Task<Over> list();
  Task<Over> start_tls();
  Task<Over> choose_framing(Option option);
  Task<Over> meta_context(Option option, std::span<const std::byte> data);
  void choose(const ExportInfo& found);
  void add(Option option, OptionReply reply, std::span<const std::byte> data = {});
  Task<Over> send_replies();
  Task<Over> refuse(Option option, OptionReply kind, std::string_view text);

  std::unique_ptr<Stream>& stream_;
  Offer& offer_;
  Agreement agreement_;
  std::string context_export_;  // for which the contexts were chosen
  std::vector<std::byte> data_;
  std::vector<std::byte> replies_;
  bool no_zeroes_ = false;
  bool encrypted_ = false;
};

Error left() {
  return fail(Errc::kShutdown, "the client left during negotiation");
}

// A name from outside, fit for one log line.
std::string printable(std::string_view name) {
  constexpr std::size_t kShown = 200;
  std::string text;
  for (const char c : name.substr(0, kShown)) {
    if (c >= ' ' && c <= '~') {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return name.size() > kShown ? text + "..." : text;
}

bool takes_no_data(Option option) {
  return option == Option::kList || option == Option::kStartTls ||
         option == Option::kStructuredReply || option == Option::kExtendedHeaders;
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
  for (unsigned count = 0; count < kOptionsMax; ++count) {
    std::array<std::byte, 16> head;
    if (!co_await stream_->receive_all(head)) co_return left();
    ByteReader in(head);
    if (in.be<std::uint64_t>() != kOptionMagic) {
      co_return fail(Errc::kInvalid, "garbage where an option was expected");
    }
    const auto option = in.be<std::uint32_t>();
    const auto length = in.be<std::uint32_t>();
    auto over = co_await take_option(option, length);
    if (!over) co_return over.error();
    if (*over) co_return std::move(agreement_);
  }
  co_return fail(Errc::kInvalid, "more than {} options", kOptionsMax);
}

Task<Result<bool>> Negotiation::take_option(std::uint32_t number, std::uint32_t length) {
  const auto option = static_cast<Option>(number);
  if (length > kOptionSkipMax) {
    co_return fail(Errc::kInvalid, "option {} of {} bytes", number, length);
  }
  data_.resize(length);
  if (!co_await stream_->receive_all(data_)) co_return left();
  if (length > kOptionLengthMax) {
    data_.clear();
    data_.shrink_to_fit();
    if (option == Option::kExportName) {
      co_return fail(Errc::kInvalid, "an export name of {} bytes", length);
    }
    co_return co_await refuse(option, OptionReply::kTooBig, "the option is too long");
  }
  if (offer_.tls() == TlsPolicy::kRequired && !encrypted_ && option != Option::kStartTls &&
      option != Option::kAbort) {
    if (option == Option::kExportName) co_return fail(Errc::kPermission, "TLS is required");
    co_return co_await refuse(option, OptionReply::kTlsRequired, "this server requires TLS");
  }
  if (takes_no_data(option) && length > 0) {
    co_return co_await refuse(option, OptionReply::kInvalid, "the option takes no data");
  }
  co_return co_await handle(option, data_);
}

Task<Result<bool>> Negotiation::handle(Option option, std::span<const std::byte> data) {
  switch (option) {
    case Option::kExportName:
      co_return co_await export_name(data);
    case Option::kAbort: {
      add(option, OptionReply::kAck);
      auto sent = co_await send_replies();
      static_cast<void>(sent);  // It may have left without waiting for it.
      co_return left();
    }
    case Option::kList:
      co_return co_await list();
    case Option::kStartTls:
      co_return co_await start_tls();
    case Option::kInfo:
    case Option::kGo:
      co_return co_await info_or_go(option, data);
    case Option::kStructuredReply:
    case Option::kExtendedHeaders:
      co_return co_await choose_framing(option);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      co_return co_await meta_context(option, data);
  }
  co_return co_await refuse(option, OptionReply::kUnsupported, "unknown option");
}

// --- Replies: gathered, then sent at once ---

void Negotiation::add(Option option, OptionReply kind, std::span<const std::byte> data) {
  const auto bytes = encode_option_reply(static_cast<std::uint32_t>(option), kind, data);
  replies_.insert(replies_.end(), bytes.begin(), bytes.end());
}

Task<Result<bool>> Negotiation::send_replies() {
  const bool sent = co_await stream_->send_bytes(replies_);
  replies_.clear();
  if (!sent) co_return left();
  co_return false;
}

Task<Result<bool>> Negotiation::refuse(Option option, OptionReply kind, std::string_view text) {
  add(option, kind, as_bytes(text));
  co_return co_await send_replies();
}

// --- Options ---

void Negotiation::choose(const ExportInfo& found) {
  agreement_.export_name = found.name;
  agreement_.export_id = found.id;
  if (context_export_ != found.name) agreement_.contexts.clear();
}

Task<Result<bool>> Negotiation::export_name(std::span<const std::byte> data) {
  const std::string name(as_text(data));
  const auto found = co_await offer_.find(name);
  // There is no way to refuse here but to hang up.
  if (!found) co_return fail(Errc::kNotFound, "no such export: '{}'", printable(name));
  std::vector<std::byte> answer(no_zeroes_ ? 10 : 134);
  ByteWriter out(answer);
  out.be(found->size_bytes);
  out.be(transmission_flags(found->read_only, agreement_.framing != Framing::kSimple));
  out.zeros(answer.size() - out.position());
  if (!co_await stream_->send_bytes(answer)) co_return left();
  choose(*found);
  agreement_.knows_block_sizes = false;
  co_return true;
}

Task<Result<bool>> Negotiation::info_or_go(Option option, std::span<const std::byte> data) {
  auto query = decode_export_query(data);
  if (!query) co_return co_await refuse(option, OptionReply::kInvalid, query.error().message);
  const auto found = co_await offer_.find(query->name);
  if (!found) {
    co_return co_await refuse(option, OptionReply::kUnknown,
                              "no such export; a disk is exported while it is attached");
  }
  std::array<std::byte, 12> export_info;
  ByteWriter out(export_info);
  out.be(static_cast<std::uint16_t>(Info::kExport));
  out.be(found->size_bytes);
  out.be(transmission_flags(found->read_only, agreement_.framing != Framing::kSimple));
  add(option, OptionReply::kInfo, export_info);
  std::array<std::byte, 14> sizes;
  ByteWriter size_out(sizes);
  size_out.be(static_cast<std::uint16_t>(Info::kBlockSize));
  size_out.be(kBlockSizeMin);
  size_out.be(kBlockSizePreferred);
  size_out.be(kPayloadMax);
  add(option, OptionReply::kInfo, sizes);
  const auto wanted = [&query](Info info) {
    return std::find(query->infos.begin(), query->infos.end(), static_cast<std::uint16_t>(info)) !=
           query->infos.end();
  };
  for (const Info info : {Info::kName, Info::kDescription}) {
    if (!wanted(info)) continue;
    const std::string& text = info == Info::kName ? found->name : found->description;
    std::vector<std::byte> answer(2 + text.size());
    ByteWriter text_out(answer);
    text_out.be(static_cast<std::uint16_t>(info));
    text_out.bytes(as_bytes(text));
    add(option, OptionReply::kInfo, answer);
  }
  add(option, OptionReply::kAck);
  if (auto sent = co_await send_replies(); !sent) co_return sent;
  if (option == Option::kInfo) co_return false;
  choose(*found);
  agreement_.knows_block_sizes = wanted(Info::kBlockSize);
  co_return true;
}

Task<Result<bool>> Negotiation::list() {
  for (const ExportInfo& one : offer_.list()) {
    std::vector<std::byte> answer(4 + one.name.size() + one.description.size());
    ByteWriter out(answer);
    out.be(static_cast<std::uint32_t>(one.name.size()));
    out.bytes(as_bytes(one.name));
    out.bytes(as_bytes(one.description));
    add(Option::kList, OptionReply::kServer, answer);
  }
  add(Option::kList, OptionReply::kAck);
  co_return co_await send_replies();
}

Task<Result<bool>> Negotiation::start_tls() {
  if (offer_.tls() == TlsPolicy::kOff) {
    co_return co_await refuse(Option::kStartTls, OptionReply::kPolicy,
                              "this server has no TLS credentials");
  }
  if (encrypted_) {
    co_return co_await refuse(Option::kStartTls, OptionReply::kInvalid, "TLS is on already");
  }
  add(Option::kStartTls, OptionReply::kAck);
  if (auto sent = co_await send_replies(); !sent) co_return sent;
  auto secure = co_await offer_.start_tls(std::move(stream_));
  if (!secure) co_return secure.error();
  stream_ = std::move(*secure);
  encrypted_ = true;
  // What was agreed in the clear does not count.
  agreement_ = Agreement{};
  context_export_.clear();
  co_return false;
}

Task<Result<bool>> Negotiation::choose_framing(Option option) {
  if (agreement_.framing == Framing::kExtended) {
    const bool again = option == Option::kExtendedHeaders;
    const auto kind = again ? OptionReply::kInvalid : OptionReply::kExtendedHeadersRequired;
    co_return co_await refuse(option, kind, "extended headers are on already");
  }
  if (option == Option::kExtendedHeaders) {
    agreement_.framing = Framing::kExtended;
  } else if (agreement_.framing == Framing::kSimple) {
    agreement_.framing = Framing::kStructured;
  } else {
    co_return co_await refuse(option, OptionReply::kInvalid, "structured replies are on already");
  }
  add(option, OptionReply::kAck);
  co_return co_await send_replies();
}

Task<Result<bool>> Negotiation::meta_context(Option option, std::span<const std::byte> data) {
  const bool set = option == Option::kSetMetaContext;
  if (set) agreement_.contexts.clear();  // Whatever comes of it, the earlier choice is void.
  if (agreement_.framing == Framing::kSimple) {
    co_return co_await refuse(option, OptionReply::kInvalid,
                              "structured replies must be negotiated first");
  }
  auto query = decode_context_query(data);
  if (!query) co_return co_await refuse(option, OptionReply::kInvalid, query.error().message);
  const auto found = co_await offer_.find(query->name);
  if (!found) co_return co_await refuse(option, OptionReply::kUnknown, "no such export");
  if (!set && query->queries.empty()) query->queries.emplace_back();  // Everything there is.
  std::vector<std::string> names;
  for (const std::string& text : query->queries) {
    for (std::string& name : offer_.contexts(query->name, text, set)) {
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(std::move(name));
      }
    }
  }
  if (set && names.size() > kContextsMax) {
    co_return co_await refuse(option, OptionReply::kTooBig, "too many contexts at once");
  }
  std::uint32_t id = 0;
  for (const std::string& name : names) {
    if (set) agreement_.contexts.push_back({++id, name});
    std::vector<std::byte> answer(4 + name.size());
    ByteWriter out(answer);
    out.be(id);  // Listing has no use for it: zero.
    out.bytes(as_bytes(name));
    add(option, OptionReply::kMetaContext, answer);
  }
  if (set) context_export_ = query->name;
  add(option, OptionReply::kAck);
  co_return co_await send_replies();
}

}  // namespace

std::uint16_t transmission_flags(bool read_only, bool structured) {
  std::uint16_t flags = kHasFlags | kSendFlush | kSendFua | kCanMultiConn | kSendCache;
  if (structured) flags |= kSendDf;
  if (read_only) return flags | kReadOnly;
  return flags | kSendTrim | kSendWriteZeroes | kSendFastZero;
}

Task<Result<Agreement>> negotiate(std::unique_ptr<Stream>& stream, Offer& offer) {
  Negotiation negotiation(stream, offer);
  co_return co_await negotiation.run();
}

}  // namespace clouddisk::nbd
