#include "tools/clouddisk/api_words.h"

#include <cctype>
#include <string_view>

namespace clouddisk::cli {
namespace {

struct Words {
  std::string_view api;
  std::string_view command_line;
};

// The earlier go first. Only what a command can be told, and means one option wherever it stands.
constexpr Words kWords[] = {
    {"see DescribeCategories", "see: clouddisk category list"},
    {"CancelCopyImage gives it up", "give it up with: clouddisk image cancel-copy ID"},
    {"Give InstanceId, SnapshotId or DiskDeviceMapping.1.SnapshotId",
     "Give --instance, or --snapshot"},
    {"Give AddAccount.1 or RemoveAccount.1", "Give --with or --without"},
    {"TargetCopyRegions is a JSON list of one region", "--copy-to is another region of the daemon"},
    // No option that --last did not stand in for.
    {"StartTime is more than 30 days ago", "That begins more than 30 days ago"},
    {"EndTime is earlier than StartTime", "--to is earlier than --from"},
    {"take a longer Period", "take a longer --period"},
    {"Rate is like", "--rate is like"},
    {"Force=true", "--force"},
    {"EnableCrossRegionCopy=true", "--copy-to"},
    {"TargetCopyRegions", "--copy-to"},
    {"CopiedSnapshotsRetentionDays", "--copy-retention-days"},
    {"RetentionDays", "--retention-days"},
    {"StoreDefault", "--store-default"},
    {"StoreLatencyUs", "--store-latency"},
    {"StoreBytesPerSecond", "--store-bandwidth"},
    {"BytesPerSecond", "--rate"},
    {"IopsLimit", "--iops"},
    {"ThroughputLimit", "--throughput"},
    {"ResourceType", "--type"},
    {"ClientToken", "--client-token"},
};

bool in_a_word(const std::string& text, std::size_t at) {
  if (at >= text.size()) return false;
  return std::isalnum(static_cast<unsigned char>(text[at])) != 0 || text[at] == '\'';
}

void replace_word(std::string& text, std::string_view word, std::string_view with) {
  std::size_t at = text.find(word);
  while (at != std::string::npos) {
    const bool whole = (at == 0 || !in_a_word(text, at - 1)) && !in_a_word(text, at + word.size());
    if (whole) text.replace(at, word.size(), with);
    at = text.find(word, at + (whole ? with.size() : word.size()));
  }
}

}  // namespace

std::string in_words_of_the_command_line(std::string message) {
  for (const Words& words : kWords) replace_word(message, words.api, words.command_line);
  return message;
}

}  // namespace clouddisk::cli
