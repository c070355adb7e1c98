#include "engine/catalog/catalog_store.h"

#include <bit>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/log.h"
#include "engine/catalog/catalog_check.h"
#include "engine/catalog/records.h"

namespace clouddisk {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kHeaderKey = "!header";  // before every other key
constexpr std::string_view kFirstKey = "!";
constexpr std::string_view kEndKey = "\x7f";  // keys are printable ASCII

std::string uuid_text(const SetUuid& uuid) {
  std::string text;
  for (const std::uint8_t byte : uuid) text += fmt::format("{:02x}", byte);
  return text;
}

bool has(ReplicaMask mask, unsigned replica) {
  return (mask >> replica & 1U) != 0;
}

}  // namespace

// One transaction, encoded: what a worker carries out on a copy.
struct CatalogStore::Batch {
  bool erase_all_first = false;
  std::vector<std::pair<std::string, std::vector<std::byte>>> puts;
  std::vector<std::string> erases;

  Result<void> apply(Kv& kv) const {
    auto writer = kv.write();
    if (!writer) return writer.error();
    KvWriter& txn = **writer;
    if (erase_all_first) {
      if (auto r = txn.erase_range(as_bytes(kFirstKey), as_bytes(kEndKey)); !r) return r;
    }
    for (const std::string& key : erases) {
      if (auto r = txn.erase(as_bytes(key)); !r) return r;
    }
    for (const auto& [key, frame] : puts) {
      if (auto r = txn.put(as_bytes(key), frame); !r) return r;
    }
    return txn.commit();
  }
};

struct CatalogStore::Waiting {
  Change change;
  std::optional<Result<void>> result;
};

struct CatalogStore::Round {
  explicit Round(Ring& ring) : under_way(ring) {}
  std::array<std::optional<Result<void>>, kReplicaCount> results;
  WaitGroup under_way;

  ReplicaMask written() const {
    ReplicaMask mask = 0;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      if (results[i] && *results[i]) mask |= 1U << i;
    }
    return mask;
  }
  Error problem(unsigned i) const {
    // One that answered well since the wait for it was given up has come too late.
    if (!results[i] || *results[i]) {
      return fail(Errc::kTimedOut, "the catalog's copy does not answer");
    }
    return fail(results[i]->error(), "the catalog's copy");
  }
};

// What a folder holds.
struct CatalogStore::Found {
  std::shared_ptr<Kv> kv;  // null: no catalog there
  std::uint64_t commit = 0;
  Records records;
};

CatalogStore::CatalogStore(Ring& ring, ReplicaSet& replicas, Options options)
    : ring_(ring), replicas_(replicas), options_(options), changing_(ring) {}

std::string CatalogStore::directory(unsigned replica) const {
  return replicas_.folder(replica) + "/catalog";
}

Task<Result<std::unique_ptr<CatalogStore>>> CatalogStore::open(Ring& ring, ReplicaSet& replicas,
                                                               Options options) {
  std::unique_ptr<CatalogStore> store(new CatalogStore(ring, replicas, options));
  if (auto loaded = co_await store->load(replicas.in_sync_mask()); !loaded) {
    co_return loaded.error();
  }
  co_return store;
}

// Runs on a worker: everything is read and checked before anything is believed.
static Result<std::uint64_t> read_all(Kv& kv, const std::string& set_uuid,
                                      CatalogStore::Records& records) {
  auto reader = kv.read();
  if (!reader) return reader.error();
  std::optional<Error> problem;
  auto scanned = (*reader)->scan(as_bytes(kFirstKey), as_bytes(kEndKey), [&](KvBytes k, KvBytes v) {
    const std::string key(as_text(k));
    auto json = decode_record(key, v);
    if (!json) {
      problem = json.error();
      return false;
    }
    records.emplace(key, std::move(*json));
    return true;
  });
  if (problem) return *problem;
  if (!scanned) return scanned.error();
  const auto header = records.find(std::string(kHeaderKey));
  if (header == records.end()) return fail(Errc::kCorrupt, "catalog without its header");
  const Json json = Json::parse(header->second, nullptr, false);
  const bool whole = json.is_object() && json.contains("commit") &&
                     json["commit"].is_number_unsigned() && json.contains("set") &&
                     json["set"].is_string() && json.contains("records") &&
                     json["records"].is_number_unsigned();
  if (!whole) return fail(Errc::kCorrupt, "catalog header '{}'", header->second);
  if (json["set"].get<std::string>() != set_uuid) {
    return fail(Errc::kCorrupt, "catalog of another replica set, {}",
                json["set"].get<std::string>());
  }
  const auto count = json["records"].get<std::uint64_t>();
  records.erase(header);
  if (records.size() != count) {
    return fail(Errc::kCorrupt, "catalog with {} records, its header says {}", records.size(),
                count);
  }
  return json["commit"].get<std::uint64_t>();
}

Task<Result<CatalogCopy>> read_catalog_copy(Ring& ring, ReplicaSet& replicas, unsigned replica) {
  const std::string path = replicas.folder(replica) + "/catalog";
  const std::string uuid = uuid_text(replicas.set_uuid());
  auto listed = co_await ring.list(path);
  if (!listed && listed.error().code != Errc::kNotFound) co_return listed.error();
  if (!listed || listed->empty()) co_return CatalogCopy{};
  auto work = [&ring, path, uuid]() -> Result<CatalogCopy> {
    KvOptions options;
    options.create = false;
    auto kv = ring.open_kv(path, options);
    if (!kv && kv.error().code == Errc::kNotFound) return CatalogCopy{};
    if (!kv) return kv.error();
    CatalogStore::Records records;
    auto commit = read_all(**kv, uuid, records);
    if (!commit) return commit.error();
    return CatalogCopy{true, *commit, records.size()};
  };
  co_return co_await ring.blocking(std::move(work));
}

Task<Result<CatalogStore::Found>> CatalogStore::read_copy(unsigned replica) {
  const std::string path = directory(replica);
  const std::string uuid = uuid_text(replicas_.set_uuid());
  if (auto info = co_await ring_.stat(path); !info) {
    if (info.error().code == Errc::kNotFound) co_return Found{};
    co_return info.error();
  }
  auto listed = co_await ring_.list(path);
  if (!listed) co_return listed.error();
  if (listed->empty()) co_return Found{};
  Ring* ring = &ring_;
  // A name for it: GCC 12 destroys a temporary closure in a co_await twice.
  auto work = [ring, path, uuid]() -> Result<Found> {
    KvOptions options;
    options.create = false;
    auto kv = ring->open_kv(path, options);
    if (!kv) {
      if (kv.error().code == Errc::kNotFound) return Found{};
      return kv.error();
    }
    Found found;
    found.kv = std::move(*kv);
    auto commit = read_all(*found.kv, uuid, found.records);
    if (!commit) return commit.error();
    found.commit = *commit;
    return found;
  };
  co_return co_await ring_.blocking(std::move(work));
}

Task<Result<void>> CatalogStore::load(ReplicaMask members) {
  std::array<Found, kReplicaCount> found;
  ReplicaMask to_replace = 0;
  std::array<std::string, kReplicaCount> reasons;
  std::optional<unsigned> newest;
  std::optional<Error> damage;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!has(members, i)) continue;
    auto copy = co_await read_copy(i);
    if (!copy) {
      if (copy.error().code == Errc::kUnsupported) {
        co_return fail(copy.error(), "replica {}", i + 1);
      }
      log(LogLevel::kError, "catalog", "replica {}: {}", i + 1, copy.error().message);
      damage = fail(copy.error(), "replica {}", i + 1);
      reasons[i] = copy.error().message;
      to_replace |= 1U << i;
      continue;
    }
    found[i] = std::move(*copy);
    if (found[i].kv == nullptr) {
      reasons[i] = "no catalog in its folder";
      to_replace |= 1U << i;
    } else if (!newest || found[i].commit > found[*newest].commit) {
      newest = i;
    }
  }
  if (!newest && damage) {
    co_return fail(*damage, "no copy of the catalog can be trusted");
  }
  if (newest) {
    commit_ = found[*newest].commit;
    records_ = found[*newest].records;
  }
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!has(members, i) || found[i].kv == nullptr) continue;
    copies_[i].kv = std::move(found[i].kv);
    copies_[i].current = found[i].commit == commit_;
    if (!copies_[i].current) {
      reasons[i] =
          fmt::format("its catalog is at change {}, the newest is at {}", found[i].commit, commit_);
      to_replace |= 1U << i;
    }
  }
  if (!newest) {
    if (auto fresh = co_await check_no_disks(members); !fresh) co_return fresh;
    commit_ = 1;  // A new catalog: the counter starts with its making.
  }
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!has(to_replace, i)) continue;
    if (newest) {
      log(LogLevel::kWarning, "catalog", "replica {}: catalog written anew: {}", i + 1, reasons[i]);
    }
    co_await replace_or_drop(i);
  }
  co_return Result<void>{};
}

// Where disks are stored, a catalog once was: an empty one in its place would orphan them.
Task<Result<void>> CatalogStore::check_no_disks(ReplicaMask members) {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!has(members, i)) continue;
    const std::string folder = replicas_.folder(i) + "/disks";
    auto stored = co_await ring_.list(folder);
    if (!stored && stored.error().code == Errc::kNotFound) continue;
    if (!stored) co_return stored.error();
    if (stored->empty()) continue;
    co_return fail(Errc::kCorrupt,
                   "no replica in sync has a catalog, but {} holds disks, {} among them: put back "
                   "the folder {} of any replica from a copy, or move the disks away",
                   folder, stored->front(), directory(i));
  }
  co_return Result<void>{};
}

Task<void> CatalogStore::replace_or_drop(unsigned replica) {
  auto replaced = co_await replace(replica);
  if (replaced) co_return;
  auto dropped = co_await replicas_.drop(ring_, replica, replaced.error().message);
  if (!dropped) log(LogLevel::kError, "catalog", "{}", dropped.error().message);
}

Task<Result<void>> CatalogStore::replace(unsigned replica) {
  Copy& copy = copies_[replica];
  copy = Copy{};  // Closed before its files go.
  const std::string path = directory(replica);
  if (auto r = co_await ring_.remove_tree(path); !r) co_return r.error();
  if (auto r = co_await ring_.make_directories(path); !r) co_return r.error();
  if (auto r = co_await ring_.sync_directory(replicas_.folder(replica)); !r) co_return r.error();
  auto batch = std::make_shared<const Batch>(make_whole(commit_));
  Ring* ring = &ring_;
  auto work = [ring, path, batch]() -> Result<std::shared_ptr<Kv>> {
    const KvOptions options;
    auto kv = ring->open_kv(path, options);
    if (!kv) return kv.error();
    if (auto applied = batch->apply(**kv); !applied) return applied.error();
    return std::shared_ptr<Kv>(std::move(*kv));
  };
  auto made = co_await ring_.blocking(std::move(work));
  if (!made) co_return fail(made.error(), "catalog of replica {}", replica + 1);
  if (auto r = co_await ring_.sync_directory(path); !r) co_return r.error();
  copy.kv = std::move(*made);
  copy.current = true;
  co_return Result<void>{};
}

Task<Result<void>> CatalogStore::copy_to(unsigned replica) {
  CHECK(replica < kReplicaCount);
  auto guard = co_await changing_.lock();
  if (!has(replicas_.in_sync_mask() | replicas_.receiving_mask(), replica)) {
    co_return fail(Errc::kInvalid, "replica {} is neither in sync nor receiving", replica + 1);
  }
  co_return co_await replace(replica);
}

static std::vector<std::byte> encode_header(std::uint64_t number, std::size_t records,
                                            const SetUuid& uuid) {
  const Json header = {{"commit", number}, {"records", records}, {"set", uuid_text(uuid)}};
  return encode_record(kHeaderKey, header.dump());
}

CatalogStore::Batch CatalogStore::make_batch(const Change& change, std::uint64_t number) const {
  Batch batch;
  std::size_t count = records_.size();
  for (const auto& [key, json] : change) {
    const bool existed = records_.contains(key);
    if (json) {
      batch.puts.emplace_back(key, encode_record(key, *json));
      if (!existed) ++count;
    } else {
      batch.erases.push_back(key);
      if (existed) --count;
    }
  }
  batch.puts.emplace_back(kHeaderKey, encode_header(number, count, replicas_.set_uuid()));
  return batch;
}

CatalogStore::Batch CatalogStore::make_whole(std::uint64_t number) const {
  Batch batch;
  batch.erase_all_first = true;
  for (const auto& [key, json] : records_) batch.puts.emplace_back(key, encode_record(key, json));
  batch.puts.emplace_back(kHeaderKey, encode_header(number, records_.size(), replicas_.set_uuid()));
  return batch;
}

Task<void> CatalogStore::write_one(Ring& ring, std::shared_ptr<Round> round, unsigned replica,
                                   std::shared_ptr<Kv> kv, std::shared_ptr<const Batch> batch) {
  auto work = [kv, batch] { return batch->apply(*kv); };
  auto result = co_await ring.blocking_first(std::move(work));
  round->results[replica] = std::move(result);
  round->under_way.done();
}

// Writes to all targets at once and waits for each, or for the time limit. The round outlives
// whoever gives up waiting.
Task<std::shared_ptr<CatalogStore::Round>> CatalogStore::write_round(
    ReplicaMask targets, std::shared_ptr<const Batch> batch) {
  auto round = std::make_shared<Round>(ring_);
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!has(targets, i)) continue;
    round->under_way.add();
    spawn(write_one(ring_, round, i, copies_[i].kv, batch));
  }
  co_await round->under_way.wait_until(ring_.now() + options_.stall_max);
  co_return round;
}

void CatalogStore::forget_outsiders(ReplicaMask members) {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!has(members, i)) copies_[i] = Copy{};
  }
}

Task<Result<void>> CatalogStore::commit(Change change) {
  auto mine = std::make_shared<Waiting>(Waiting{std::move(change), {}});
  waiting_.push_back(mine);
  auto guard = co_await changing_.lock();
  if (mine->result) co_return *mine->result;  // It went with another's.
  const auto together = std::exchange(waiting_, {});
  Change merged;
  for (const auto& one : together) {
    for (auto& [key, json] : one->change) merged[key] = std::move(json);
  }
  const Result<void> result = co_await commit_locked(std::move(merged));
  for (const auto& one : together) one->result = result;
  co_return result;
}

Task<Result<void>> CatalogStore::commit_locked(Change change) {
  const unsigned quorum = replicas_.single_allowed() ? 1 : kWriteQuorum;
  forget_outsiders(replicas_.in_sync_mask() | replicas_.receiving_mask());
  // A member without a good copy gets a whole one first: left by a failure, or admitted without.
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (has(replicas_.in_sync_mask(), i) && !copies_[i].current) {
      log(LogLevel::kWarning, "catalog", "replica {}: its copy was not kept up to date", i + 1);
      co_await replace_or_drop(i);
    }
  }
  const ReplicaMask members = replicas_.in_sync_mask();
  if (!replicas_.can_write()) {
    co_return fail(Errc::kReplicasLost, "{} of {} replicas in sync, {} needed to change anything",
                   std::popcount(members), kReplicaCount, quorum);
  }
  ReplicaMask targets = 0;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    const bool wanted = has(members | replicas_.receiving_mask(), i);
    if (wanted && copies_[i].current) targets |= 1U << i;
  }

  auto batch = std::make_shared<const Batch>(make_batch(change, commit_ + 1));
  auto round = co_await write_round(targets, batch);
  const ReplicaMask written = round->written();
  const ReplicaMask acknowledging = written & replicas_.in_sync_mask();
  if (static_cast<unsigned>(std::popcount(acknowledging)) < quorum) {
    co_return co_await take_back(change, written, *round);
  }
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!has(targets, i) || has(written, i)) continue;
    copies_[i] = Copy{};
    auto dropped = co_await replicas_.drop(ring_, i, round->problem(i).message);
    if (!dropped) co_return co_await take_back(change, written, *round);
  }
  ++commit_;
  for (auto& [key, json] : change) {
    if (json) {
      records_[key] = std::move(*json);
    } else {
      records_.erase(key);
    }
  }
  co_return Result<void>{};
}

// The change is on too few copies to count. Where it was written it is undone, so that neither the
// next change nor the next start builds on it.
Task<Result<void>> CatalogStore::take_back(const Change& change, ReplicaMask written,
                                           const Round& round) {
  bool no_space = true;
  Error cause = fail(Errc::kReplicasLost, "too few replicas in sync to change anything");
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (copies_[i].kv == nullptr || has(written, i)) continue;
    cause = round.problem(i);
    if (cause.code == Errc::kNoSpace) continue;  // Its transaction left it as it was.
    no_space = false;
    copies_[i] = Copy{};
    static_cast<void>(co_await replicas_.drop(ring_, i, cause.message));
  }
  Change inverse;
  for (const auto& [key, json] : change) {
    const auto before = records_.find(key);
    inverse[key] = before != records_.end() ? std::optional(before->second) : std::nullopt;
  }
  commit_ += 2;
  Batch batch;
  for (const auto& [key, json] : inverse) {
    if (json) {
      batch.puts.emplace_back(key, encode_record(key, *json));
    } else {
      batch.erases.push_back(key);
    }
  }
  batch.puts.emplace_back(kHeaderKey,
                          encode_header(commit_, records_.size(), replicas_.set_uuid()));
  auto shared = std::make_shared<const Batch>(std::move(batch));
  auto undo = co_await write_round(written, shared);
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!has(written, i) || has(undo->written(), i)) continue;
    copies_[i].current = false;  // Written anew before the next change.
    log(LogLevel::kError, "catalog", "replica {}: a refused change may show after a restart: {}",
        i + 1, undo->problem(i).message);
  }
  if (no_space && cause.code == Errc::kNoSpace) co_return cause;
  co_return fail(Errc::kReplicasLost, "nothing was changed: {}", cause.message);
}

}  // namespace clouddisk
