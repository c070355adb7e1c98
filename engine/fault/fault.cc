#include "engine/fault/fault.h"

#include <array>

namespace clouddisk {
namespace {

constexpr FaultOps kAllOps = kFaultRead | kFaultWrite | kFaultFlush;

struct KindRow {
  FaultKind kind;
  std::string_view name;
  FaultOps ops;  // that it can meet
};
constexpr std::array<KindRow, kFaultKinds> kKinds = {{
    {FaultKind::kSlow, "slow", kAllOps},
    {FaultKind::kError, "error", kAllOps},
    {FaultKind::kCorrupt, "corrupt", kFaultRead | kFaultWrite},
    {FaultKind::kTorn, "torn", kFaultWrite},
    {FaultKind::kDrop, "drop", kFaultWrite | kFaultFlush},
    {FaultKind::kFull, "full", kFaultWrite},
    {FaultKind::kHang, "hang", kAllOps},
}};

struct OpRow {
  FaultOps op;
  std::string_view name;
};
constexpr std::array<OpRow, 3> kOps = {
    {{kFaultRead, "read"}, {kFaultWrite, "write"}, {kFaultFlush, "flush"}}};

const KindRow& row_of(FaultKind kind) {
  return kKinds[static_cast<std::size_t>(kind)];
}

std::string seconds_text(Duration duration) {
  return fmt::format("{:g} s", std::chrono::duration<double>(duration).count());
}

}  // namespace

std::string_view name(FaultKind kind) {
  return row_of(kind).name;
}

std::optional<FaultKind> parse_fault_kind(std::string_view text) {
  for (const KindRow& row : kKinds) {
    if (row.name == text) return row.kind;
  }
  return std::nullopt;
}

std::string names_of(FaultOps ops) {
  std::string names;
  for (const OpRow& row : kOps) {
    if ((ops & row.op) == 0) continue;
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

std::optional<FaultOps> parse_fault_op(std::string_view text) {
  for (const OpRow& row : kOps) {
    if (row.name == text) return row.op;
  }
  return std::nullopt;
}

Result<FaultSpec> complete(FaultSpec spec) {
  const FaultOps possible = row_of(spec.kind).ops;
  const FaultOps wanted = spec.ops;
  if ((wanted & ~possible) != 0) {
    return fail(Errc::kInvalid, "'{}' can't meet a {}: it is for {}", name(spec.kind),
                names_of(static_cast<FaultOps>(wanted & ~possible)), names_of(possible));
  }
  if (wanted == 0) spec.ops = possible;
  if (spec.blocks) {
    if (!spec.at_client()) {
      return fail(Errc::kInvalid,
                  "a replica keeps the disk as a log, where a block lies elsewhere after each "
                  "write: name blocks for a fault that the client sees, or leave them out");
    }
    if (spec.blocks->last < spec.blocks->first) {
      return fail(Errc::kInvalid, "blocks {}-{} end before they begin", spec.blocks->first.value,
                  spec.blocks->last.value);
    }
    // A flush is of the whole disk.
    if ((wanted & kFaultFlush) != 0) {
      return fail(Errc::kInvalid,
                  "a flush is of the whole disk: leave out the blocks or the flush");
    }
    spec.ops &= static_cast<FaultOps>(~kFaultFlush);
  }
  if (!(spec.rate > 0 && spec.rate <= 1)) {
    return fail(Errc::kInvalid, "a rate is above 0 and at most 1 (0.1 or 10%), not {:g}",
                spec.rate);
  }
  if (spec.kind != FaultKind::kSlow && spec.delay) {
    return fail(Errc::kInvalid, "a delay is for 'slow': '{}' has none", name(spec.kind));
  }
  if (spec.kind == FaultKind::kSlow) {
    if (!spec.delay) spec.delay = kFaultDelay;
    if (*spec.delay <= Duration::zero() || *spec.delay > kFaultDelayMax) {
      return fail(Errc::kInvalid, "a delay is above 0 and at most {}, not {}",
                  seconds_text(kFaultDelayMax), seconds_text(*spec.delay));
    }
  }
  if (spec.lifetime && (*spec.lifetime <= Duration::zero() || *spec.lifetime > kFaultLifetimeMax)) {
    return fail(Errc::kInvalid, "a fault lasts for above 0 and at most {}, not {}",
                seconds_text(kFaultLifetimeMax), seconds_text(*spec.lifetime));
  }
  return spec;
}

std::string describe(const FaultSpec& spec) {
  std::string text = fmt::format("{} on {}", name(spec.kind), names_of(spec.ops));
  if (spec.replica) text += fmt::format(" at replica {}", *spec.replica + 1);
  if (spec.rate < 1) text += fmt::format(", {:g} %", spec.rate * 100);
  if (spec.blocks) {
    text += fmt::format(", blocks {}-{}", spec.blocks->first.value, spec.blocks->last.value);
  }
  if (spec.delay) text += fmt::format(", {} longer", seconds_text(*spec.delay));
  return text;
}

}  // namespace clouddisk
