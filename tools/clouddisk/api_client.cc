#include "tools/clouddisk/api_client.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <set>

#include "engine/base/units.h"
#include "tools/auth/signer.h"
#include "tools/clouddisk/api_words.h"
#include "tools/http/client.h"
#include "tools/http/message.h"

namespace clouddisk::cli {
namespace {

constexpr std::chrono::seconds kTimeout{120};  // stopping a disk waits for requests under way
constexpr std::size_t kPageSize = 100;
constexpr std::size_t kPagesMax = 100'000;

// As the cloud's own clients have it.
constexpr const char* kKeyVariable = "ALIBABA_CLOUD_ACCESS_KEY_ID";
constexpr const char* kSecretVariable = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";

std::optional<auth::Credentials> credentials_of_environment() {
  const char* key = std::getenv(kKeyVariable);
  const char* secret = std::getenv(kSecretVariable);
  if (key == nullptr || secret == nullptr || *key == '\0' || *secret == '\0') return std::nullopt;
  return auth::Credentials{key, secret};
}

Failure unreachable(const Error& error, const Address& address, const std::string& root) {
  const bool is_default = address.is_unix() && address.path == root + "/api.sock";
  const bool is_here = address.is_unix() || address.host.starts_with("127.") ||
                       address.host == "::1" || address.host == "localhost";
  switch (error.code) {
    case Errc::kNotFound:
    case Errc::kShutdown:
      if (!is_here) {
        return refuse("DaemonNotRunning",
                      "nobody serves {}; check the address, or start the daemon there",
                      address.text());
      }
      return refuse("DaemonNotRunning",
                    "nobody serves {}; start the daemon with: clouddiskd --root {}{}",
                    address.text(), root, is_default ? "" : " --api " + address.text());
    case Errc::kPermission:
      return refuse("PermissionDenied",
                    "{} belongs to another user; run the command as the user of the daemon or as "
                    "a member of its group",
                    address.text());
    case Errc::kTimedOut:
      return refuse("DaemonNotAnswering",
                    "{} did not answer in {} s; the action may still be carried out; see the "
                    "daemon's log",
                    address.text(), kTimeout.count());
    default:
      return refuse("DaemonNotAnswering", "{}; see the daemon's log", error.message);
  }
}

// What helps after a refusal whose message does not say it.
std::string_view remedy_for(std::string_view code) {
  struct Remedy {
    std::string_view code;
    std::string_view text;
  };
  static constexpr Remedy kRemedies[] = {
      {"InvalidDiskId.NotFound", "See the ids with: clouddisk disk list"},
      {"InvalidInstanceId.NotFound", "See the ids with: clouddisk instance list"},
      {"IncorrectDiskStatus.CreatingSnapshot", "See how far it is: clouddisk snapshot show ID"},
      {"QuotaExceed.ConcurrentSnapshotQuota", "See how far it is: clouddisk snapshot show ID"},
      {"IncorrectDiskStatus.HasUnfinishedSnapshot",
       "See how far it is: clouddisk snapshot show ID"},
      {"DiskCreatingSnapshot", "See how far it is: clouddisk snapshot show ID"},
      {"InvalidSnapshotId.NotReady", "See: clouddisk snapshot show ID"},
      {"SignatureDoesNotMatch", "Check the secret of the access key"},
      {"InvalidAccessKeyId.NotFound", "See the keys with: clouddisk key list"},
      {"InvalidTimeStamp.Expired", "Set the clocks right: they may differ by 15 minutes"},
      {"InvalidAction.NotFound", "See the actions in docs/api.md"},
      {"InvalidDisk.AlreadyAttached", "Detach it first with: clouddisk disk detach ID"},
      {"DiskInUse", "Detach it first with: clouddisk disk detach ID"},
      {"InstanceDiskLimitExceeded",
       "Detach a disk, or attach to another: clouddisk instance create"},
      {"ServiceUnavailable", "The daemon is starting or stopping; try again in a moment"},
      {"InternalError", "The reason is in the daemon's log"},
  };
  for (const Remedy& remedy : kRemedies) {
    if (remedy.code == code) return remedy.text;
  }
  return {};
}

Failure from_error_body(const Json& body, int status) {
  Failure failure{text_of(body, "Code"), text_of(body, "Message")};
  if (failure.code.empty()) failure.code = fmt::format("HttpStatus{}", status);
  if (const std::string_view remedy = remedy_for(failure.code); !remedy.empty()) {
    // One that quotes what was signed ends in the middle of it.
    const bool quotes = failure.code == "SignatureDoesNotMatch";
    const bool ends = failure.message.empty() || failure.message.ends_with('.');
    if (!failure.message.empty()) failure.message += quotes ? "\n" : ends ? " " : ". ";
    failure.message += remedy;
  }
  return failure;
}

}  // namespace

std::string text_of(const Json& object, const std::string& member) {
  if (!object.is_object()) return {};
  const auto at = object.find(member);
  if (at == object.end() || at->is_null()) return {};
  return at->is_string() ? at->get<std::string>() : at->dump();
}

std::uint64_t number_of(const Json& object, const std::string& member) {
  if (!object.is_object()) return 0;
  const auto at = object.find(member);
  if (at == object.end() || !at->is_number() || at->get<double>() < 0) return 0;
  return at->get<std::uint64_t>();
}

Outcome<Json> ApiClient::call(const std::string& action, Params params) const {
  auto answer = perform(action, std::move(params));
  if (answer) return answer;
  Failure failure = answer.failure();
  failure.message = in_words_of_the_command_line(std::move(failure.message));
  return failure;
}

Outcome<Json> ApiClient::perform(const std::string& action, Params params) const {
  params["Action"] = action;
  params.try_emplace("Version", "2014-05-26");
  params.try_emplace("Format", "JSON");
  if (!address_.is_unix()) {
    // As on the unix socket: what comes next relies on it, and only the end tells of an error.
    params.try_emplace("Wait", "true");
    const auto credentials = credentials_of_environment();
    if (!credentials) {
      return refuse(
          "NoAccessKey",
          "{} takes signed requests alone; set {} and {}, see: clouddisk key create --help",
          address_.text(), kKeyVariable, kSecretVariable);
    }
    const auto now = std::chrono::system_clock::now();
    auth::sign_v1(params, "POST", *credentials, now, make_request_id());
  }
  auto answer = http_post(address_, "/", encode_form(params), kTimeout);
  if (!answer) return unreachable(answer.error(), address_, root_);
  Json body = Json::parse(answer->body, nullptr, false);
  if (!body.is_object()) {
    return refuse("DaemonNotAnswering", "{} answered something that is not a JSON object",
                  address_.text());
  }
  if (answer->status != 200) return from_error_body(body, answer->status);
  return body;
}

Outcome<Json> ApiClient::call_all(const std::string& action, Params params,
                                  const std::string& wrapper, const std::string& item) const {
  params["PageSize"] = std::to_string(kPageSize);
  Json all;
  std::set<std::string> seen;  // A list that changes while it is read may show an item twice.
  Json items = Json::array();
  std::size_t fetched = 0;
  for (std::size_t page = 1; page <= kPagesMax; ++page) {
    params["PageNumber"] = std::to_string(page);
    auto answer = call(action, params);
    if (!answer) return answer.failure();
    const auto at = answer->find(wrapper);
    if (at == answer->end() || !at->is_object() || !at->contains(item) || !(*at)[item].is_array()) {
      return refuse("DaemonNotAnswering", "the answer to {} has no {}.{}", action, wrapper, item);
    }
    const Json page_items = (*at)[item];
    if (page == 1) all = *answer;
    for (const Json& entry : page_items) {
      if (seen.insert(entry.dump()).second) items.push_back(entry);
    }
    fetched += page_items.size();
    if (page_items.empty() || fetched >= number_of(*answer, "TotalCount")) break;
  }
  all["PageNumber"] = 1;
  all["PageSize"] = std::max<std::size_t>(items.size(), 1);
  all["TotalCount"] = items.size();
  all[wrapper][item] = std::move(items);
  return all;
}

namespace {

// At least one, unix sockets first.
Outcome<std::vector<ApiClient::Export>> exports_in(Json answer) {
  std::vector<ApiClient::Export> exports;
  const Json& entries = answer["Exports"]["Export"];
  for (const Json& entry : entries) {
    exports.push_back({text_of(entry, "Address"), text_of(entry, "Uri")});
  }
  if (exports.empty()) {
    return refuse("ExportNotReachable", "the daemon listens nowhere for NBD; start it with --nbd");
  }
  std::stable_partition(exports.begin(), exports.end(),
                        [](const auto& entry) { return entry.address.starts_with("unix:"); });
  return exports;
}

}  // namespace

Outcome<std::vector<ApiClient::Export>> ApiClient::exports(const std::string& id) const {
  auto answer = call("DescribeDiskExport", {{"DiskId", id}});
  if (answer) return exports_in(*answer);
  Failure failure = answer.failure();
  if (failure.code != "IncorrectDiskStatus") return failure;
  auto found = disk(id);
  if (!found) return failure;
  if (text_of(*found, "Status") == "Available") {
    failure.message += " Attach it with: clouddisk disk attach " + id;
  } else if (const std::string instance = text_of(*found, "InstanceId"); !instance.empty()) {
    failure.message += " With: clouddisk instance start " + instance;
  }
  return failure;
}

Outcome<ApiClient::SnapshotExport> ApiClient::snapshot_export(const std::string& id) const {
  auto answer = call("DescribeDiskExport", {{"SnapshotId", id}});
  if (!answer) return answer.failure();
  auto exports = exports_in(*answer);
  if (!exports) return exports.failure();
  return SnapshotExport{exports->front().uri, number_of(*answer, "Size") * 1_GiB};
}

Outcome<Json> ApiClient::disk(const std::string& id) const {
  auto answer = call("DescribeDisks", {{"DiskIds", Json::array({id}).dump()}});
  if (!answer) return answer.failure();
  const Json& disks = (*answer)["Disks"]["Disk"];
  if (!disks.is_array() || disks.empty()) {
    return refuse("InvalidDiskId.NotFound",
                  "There is no disk {}. See the ids with: clouddisk disk list", id);
  }
  return disks[0];
}

}  // namespace clouddisk::cli
