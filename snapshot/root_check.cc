#include "snapshot/root_check.h"

#include <algorithm>

#include "snapshot/root_checker.h"

namespace clouddisk::snapshot {

using Kind = CheckFinding::Kind;

Task<Result<RootCheck>> RootChecker::run() {
  if (auto checked = co_await check_superblocks(); !checked) co_return checked.error();
  if (!replicas_) co_return std::move(result_);
  machine_ = std::make_unique<CheckMachine>(ring_, *replicas_);
  co_await check_catalog_copies();
  auto catalog = co_await Catalog::open(ring_, *replicas_, {});
  if (!catalog) {
    find(Kind::kLost, "catalog", std::nullopt, "{}", catalog.error().message);
    co_return std::move(result_);
  }
  catalog_ = std::move(*catalog);
  if (!options_.disk.empty() && catalog_->find_disk(options_.disk) == nullptr &&
      catalog_->find_chain(chain_of(options_.disk)) == nullptr) {
    co_return fail(Errc::kNotFound, "there is no disk {}, nor a snapshot of it", options_.disk);
  }
  check_records();
  if (auto named = co_await check_names(); !named) co_return named.error();
  if (auto added = co_await add_up(); !added) co_return added.error();
  for (const std::string& name : present_) {
    if (!wanted(storages_.at(name))) continue;
    if (auto checked = co_await check_storage(name); !checked) co_return checked.error();
  }
  co_await check_contents();
  co_await close_all();
  if (options_.repair) {
    // The next start makes it anew from the log, which must be able to.
    for (const std::string& name : strange_) {
      if (untold_.count(name) == 0 && broken_.count(name) == 0) co_await drop_tree(index_of(name));
    }
    const bool lost =
        std::any_of(result_.findings.begin(), result_.findings.end(),
                    [](const CheckFinding& finding) { return finding.kind == Kind::kLost; });
    bool any_out = false;
    for (unsigned i = 0; i < kReplicaCount; ++i) any_out = any_out || !is_in(i);
    if (any_out && !options_.disk.empty()) {
      find(Kind::kNote, "replica", std::nullopt,
           "those that are out are left as they are: other disks were not looked at");
    } else if (lost) {
      find(Kind::kNote, "replica", std::nullopt,
           "those that are out are left as they are: one may hold what the others have lost");
    } else if (auto resynced = co_await resync_others(); !resynced) {
      const CheckFinding finding =
          find(Kind::kNote, "replica", std::nullopt, "one that is out is not brought back");
      result_.failed.emplace_back(finding, resynced.error().message);
    }
  }
  co_return std::move(result_);
}

Task<Result<RootCheck>> check_root(Ring& ring, RootCheckOptions options) {
  RootChecker checker(ring, std::move(options));
  co_return co_await checker.run();
}

}  // namespace clouddisk::snapshot
