// Access keys, with which requests from elsewhere are signed. Ours in form, after the cloud's own
// for its accounts: a secret is shown once, by the action that made it.
#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>

#include "engine/catalog/name_rules.h"
#include "engine/control/control_impl.h"

namespace clouddisk {
namespace {

constexpr std::size_t kAccessKeysMax = 100;
constexpr std::string_view kAccessKeyPrefix = "LTAI";
constexpr std::size_t kAccessKeyIdRun = 20;
constexpr std::size_t kAccessKeySecretRun = 30;  // 178 bits

constexpr std::string_view kLettersAndDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

// From the system's randomness, whatever the seed of everything else: it is a secret.
std::string random_run(std::size_t length) {
  constexpr std::size_t kFair = 256 / kLettersAndDigits.size() * kLettersAndDigits.size();
  std::string run;
  while (run.size() < length) {
    std::array<std::uint8_t, 64> bytes{};
    CHECK(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    for (const std::uint8_t byte : bytes) {
      if (byte >= kFair || run.size() == length) continue;
      run += kLettersAndDigits[byte % kLettersAndDigits.size()];
    }
  }
  return run;
}

Verdict own_key_must_be_well_formed(std::string_view id, std::string_view secret) {
  const bool id_fine = id.size() >= 4 && id.size() <= 128 &&
                       id.find_first_not_of(fmt::format("{}-_.", kLettersAndDigits)) == id.npos;
  const bool secret_fine =
      secret.size() >= 16 && secret.size() <= 128 &&
      std::all_of(secret.begin(), secret.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (id_fine && secret_fine) return std::nullopt;
  return Refusal{400, "InvalidParameter",
                 "An access key of your own has an id of 4 to 128 letters, digits, - _ . and a "
                 "secret of 16 to 128 printable characters without blanks; give both."};
}

Refusal no_such_key(std::string_view id) {
  return {404, "EntityNotExist.User.AccessKey", fmt::format("There is no access key '{}'.", id)};
}

Json key_view(const KeyRecord& key) {
  return {{"AccessKeyId", key.id},
          {"Status", key.active ? "Active" : "Inactive"},
          {"Description", key.description},
          {"CreateDate", iso_time(key.created)}};
}

}  // namespace

Task<Outcome> Control::Impl::create_access_key(ControlRequest& request) {
  ParamReader& reader = request.reader;
  KeyRecord key;
  key.description = reader.text("Description");
  key.id = reader.text("UserAccessKeyId");
  key.secret = reader.text("UserAccessKeySecret");
  if (!key.description.empty()) {
    if (auto broken =
            description_must_be_well_formed(key.description, "InvalidDescription.Malformed", 400)) {
      co_return *broken;
    }
  }
  if (!key.id.empty() || !key.secret.empty()) {
    if (auto broken = own_key_must_be_well_formed(key.id, key.secret)) co_return *broken;
  } else {
    key.id = std::string(kAccessKeyPrefix) + random_run(kAccessKeyIdRun);
    key.secret = random_run(kAccessKeySecretRun);
  }
  if (catalog->find_key(key.id) != nullptr) {
    co_return Refusal{409, "EntityAlreadyExists.User.AccessKey",
                      fmt::format("There is an access key '{}' already.", key.id)};
  }
  if (catalog->keys().size() >= kAccessKeysMax) {
    co_return Refusal{409, "LimitExceeded.User.AccessKey",
                      fmt::format("There are {} access keys, the limit.", kAccessKeysMax)};
  }
  if (request.dry_run) co_return would_succeed();
  key.created = now();
  CatalogChange change;
  change.put(key);
  if (auto failed = co_await commit(std::move(change))) co_return *failed;
  Json view = key_view(key);
  view["AccessKeySecret"] = key.secret;
  Json answer = {{"AccessKey", std::move(view)}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::list_access_keys(ControlRequest&) {
  std::vector<const KeyRecord*> keys;
  for (const auto& [id, key] : catalog->keys()) keys.push_back(&key);
  std::stable_sort(keys.begin(), keys.end(),
                   [](const auto* a, const auto* b) { return a->created < b->created; });
  Json list = Json::array();
  for (const KeyRecord* key : keys) list.push_back(key_view(*key));
  Json answer = {{"AccessKeys", {{"AccessKey", std::move(list)}}}};
  co_return Outcome(std::move(answer));
}

Task<Outcome> Control::Impl::update_access_key(ControlRequest& request) {
  const std::string id = request.reader.required("UserAccessKeyId");
  const std::string status = request.reader.required("Status");
  if (request.reader.problem()) co_return *request.reader.problem();
  if (status != "Active" && status != "Inactive") {
    co_return Refusal{400, "InvalidParameter",
                      fmt::format("Status is Active or Inactive, not '{}'.", status)};
  }
  const KeyRecord* found = catalog->find_key(id);
  if (found == nullptr) co_return no_such_key(id);
  if (request.dry_run) co_return would_succeed();
  KeyRecord key = *found;
  key.active = status == "Active";
  CatalogChange change;
  change.put(key);
  co_return co_await commit_and_answer(std::move(change), request, Json::object());
}

Task<Outcome> Control::Impl::delete_access_key(ControlRequest& request) {
  const std::string id = request.reader.required("UserAccessKeyId");
  if (request.reader.problem()) co_return *request.reader.problem();
  const KeyRecord* key = catalog->find_key(id);
  if (key == nullptr) co_return no_such_key(id);
  if (request.dry_run) co_return would_succeed();
  CatalogChange change;
  change.erase(*key);
  co_return co_await commit_and_answer(std::move(change), request, Json::object());
}

}  // namespace clouddisk
