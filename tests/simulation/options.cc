#include "tests/simulation/options.h"

#include <array>
#include <cstddef>

namespace clouddisk::simulation {
namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(Fault::kCount)> kFaults = {
    "death", "power", "torn",       "lost",        "misdirected", "delayed",
    "flip",  "rot",   "read-error", "write-error", "sync-error",  "full",
    "slow",  "hung",  "gone",       "stale",       "index"};
constexpr std::array<std::string_view, static_cast<std::size_t>(Action::kCount)> kActions = {
    "read",     "write", "partial", "huge",   "trim",   "flush",  "snapshot", "capture",   "drop",
    "rollback", "clone", "hydrate", "resize", "delete", "repack", "resync",   "checkpoint"};

struct VariantText {
  std::string_view name;
  std::string_view meaning;
};
constexpr std::array<VariantText, static_cast<std::size_t>(Variant::kCount)> kVariants = {{
    {"none", "as it is"},
    {"acknowledge-early", "a write is acknowledged when the first replica has it"},
    {"skip-generation", "a replica that is dropped is not recorded on the others"},
    {"trust-stale", "a folder of an older generation counts as a member"},
    {"skip-block-checksum", "a block read from media is believed"},
    {"skip-batch-checksum", "recovery believes a batch whose payload does not match"},
    {"ignore-parent", "recovery takes any batch with the right number for the next one"},
    {"skip-tail-repair", "recovery leaves copies different behind the durable point"},
    {"relocate-over-newer", "a relocated block wins against a newer write"},
    {"free-segment-of-view", "compaction looks at the present only, never at snapshots"},
    {"remove-before-checkpoint", "a cleaned segment goes before the index has the new places"},
    {"skip-read-gate", "a cleaned segment goes while reads of it are under way"},
    {"forget-tombstones", "the trims of a cleaned segment are not kept"},
    {"forget-trim-in-replay", "replay after a restart passes trims over"},
    {"skip-log-flush", "FLUSH answers without an fdatasync"},
    {"fua-without-flush", "a FUA write answers without an fdatasync"},
    {"skip-name-sync", "a new segment's name is not made durable"},
    {"skip-folder-sync", "the folder of a new storage is not made durable"},
    {"checkpoint-before-flush", "the index knows of what is not durable yet"},
    {"partial-without-read", "a partial write takes zeros for the rest of its block"},
    {"share-partial-ranges", "partial writes of one block do not exclude each other"},
    {"hydrate-over-newer", "hydration does not look whether a block was written meanwhile"},
    {"read-borrowed-as-zero", "a borrowed block reads as zeros"},
    {"freeze-without-flush", "a snapshot is not durable when it is there"},
    {"capture-misses-trims", "a capture takes trimmed blocks for unchanged ones"},
    {"purge-what-is-seen", "deleting a snapshot frees what its neighbour shows"},
}};

template <class E, std::size_t N>
Result<SetOf<E>> parse(std::string_view text, const std::array<std::string_view, N>& names,
                       std::string_view what) {
  if (text == "all") return SetOf<E>::all();
  SetOf<E> set;
  if (text == "none") return set;
  while (!text.empty()) {
    const std::string_view one = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
    std::size_t at = 0;
    while (at < N && names[at] != one) ++at;
    if (at == N) {
      std::string known;
      for (const std::string_view name : names)
        known += (known.empty() ? "" : ",") + std::string(name);
      return fail(Errc::kInvalid, "{} '{}' is unknown; there are: none, all, {}", what, one, known);
    }
    set.add(static_cast<E>(at));
  }
  return set;
}

template <class E, std::size_t N>
std::string to_text(SetOf<E> set, const std::array<std::string_view, N>& names) {
  if (set == SetOf<E>::all()) return "all";
  if (set.empty()) return "none";
  std::string text;
  for (std::size_t i = 0; i < N; ++i) {
    if (set.has(static_cast<E>(i))) text += (text.empty() ? "" : ",") + std::string(names[i]);
  }
  return text;
}

}  // namespace

std::string_view name(Fault fault) {
  return kFaults[static_cast<std::size_t>(fault)];
}
std::string_view name(Action action) {
  return kActions[static_cast<std::size_t>(action)];
}
std::string_view name(Variant variant) {
  return kVariants[static_cast<std::size_t>(variant)].name;
}
std::string_view meaning(Variant variant) {
  return kVariants[static_cast<std::size_t>(variant)].meaning;
}
Result<Faults> parse_faults(std::string_view text) {
  return parse<Fault>(text, kFaults, "fault");
}
Result<Actions> parse_actions(std::string_view text) {
  return parse<Action>(text, kActions, "action");
}
Result<Variant> parse_variant(std::string_view text) {
  for (std::size_t i = 0; i < kVariants.size(); ++i) {
    if (kVariants[i].name == text) return static_cast<Variant>(i);
  }
  return fail(Errc::kInvalid, "variant '{}' is unknown; see --list-variants", text);
}
std::string to_text(Faults faults) {
  return to_text(faults, kFaults);
}
std::string to_text(Actions actions) {
  return to_text(actions, kActions);
}

std::string command_of(const Options& options) {
  const Options usual;
  std::string command = fmt::format("simulation --seed {} --steps {} --faults {}", options.seed,
                                    options.steps, to_text(options.faults));
  if (!(options.actions == usual.actions)) command += " --actions " + to_text(options.actions);
  if (options.disks != usual.disks) command += fmt::format(" --disks {}", options.disks);
  if (options.depth != usual.depth) command += fmt::format(" --depth {}", options.depth);
  if (options.variant != Variant::kNone)
    command += fmt::format(" --variant {}", name(options.variant));
  return command;
}

}  // namespace clouddisk::simulation
