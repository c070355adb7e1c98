#include "engine/ring/lmdb_kv.h"

#include <lmdb.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/units.h"
#include "engine/ring/lmdb_check.h"

namespace clouddisk {
namespace {

// The map is grown when less than this, or a quarter of what is used, is left. It is address space,
// not memory: small enough that thousands of environments fit, more than a checkpoint of the
// largest size writes (64 Ki pages, each with its leaf and branch).
constexpr std::size_t kHeadroom = 1_GiB;
// A transaction keeps a copy of its changes up to here, to do them again in a larger map. A larger
// one that meets a full map all the same fails, and finds the map grown when it is tried again.
constexpr std::size_t kReplayBytesMax = 16_MiB;
// LMDB keeps the memory of a transaction's pages for ever; after one of this size it is opened
// anew.
constexpr std::size_t kReopenBytes = 16_MiB;
// What is read stays mapped, and counts as the process's memory, until it is let go. The kernel
// maps up to 64 KiB around each page.
constexpr unsigned kLookupsBeforeLettingGo = 512;
constexpr std::uintptr_t kOsPage = 4096;
// The catalog has secrets of access keys in it.
constexpr mode_t kFileMode = 0600;

MDB_val to_val(KvBytes bytes) {
  return MDB_val{bytes.size(), const_cast<std::byte*>(bytes.data())};
}
KvBytes to_bytes(const MDB_val& value) {
  return {static_cast<const std::byte*>(value.mv_data), value.mv_size};
}

Error fail_lmdb(int rc, const char* what) {
  Errc code = Errc::kIo;
  if (rc == ENOSPC || rc == EDQUOT) code = Errc::kNoSpace;
  if (rc == ENOENT) code = Errc::kNotFound;
  if (rc == EACCES || rc == EPERM) code = Errc::kPermission;
  if (rc == ENOMEM || rc == EMFILE) code = Errc::kLimit;
  if (rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID || rc == MDB_PANIC ||
      rc == MDB_BAD_TXN) {
    code = Errc::kCorrupt;
  }
  if (rc == MDB_BAD_VALSIZE) code = Errc::kInvalid;
  if (rc == MDB_VERSION_MISMATCH) code = Errc::kUnsupported;
  return fail(code, "lmdb: {}: {}", what, mdb_strerror(rc));
}

class Environment {
 public:
  ~Environment() {
    if (env_ != nullptr) mdb_env_close(env_);
  }

  Result<void> open(const std::string& directory, const KvOptions& options) {
    directory_ = directory;
    flags_ = MDB_NOTLS | MDB_NORDAHEAD | (options.lazy_sync ? MDB_NOSYNC : 0U);
    std::error_code error;
    const bool there = std::filesystem::exists(directory + "/data.mdb", error);
    if (!there && !options.create) return fail(Errc::kNotFound, "no environment in {}", directory);
    if (!there) std::filesystem::create_directories(directory, error);
    if (error) return fail_errno(error.value(), "make folder {}", directory);
    if (there) {
      // LMDB would believe a damaged file, and end the process over it.
      if (auto sound = check_lmdb_file(directory + "/data.mdb"); !sound) return sound;
    }
    std::uint64_t size = there ? std::filesystem::file_size(directory + "/data.mdb", error) : 0;
    if (error) size = 0;
    map_bytes_ = size + size / 4 + kHeadroom;
    auto opened = open_env(map_bytes_, there ? MDB_RDONLY : 0U);
    if (!opened && !there) {
      // What was begun for want of space would be a damaged file to the next to open it.
      for (const char* name : {"/data.mdb", "/lock.mdb"}) {
        std::filesystem::remove(directory + name, error);
      }
    }
    // Older programs let the group read it. Whose it is not can't change that, and need not.
    if (opened && there) static_cast<void>(::chmod((directory + "/data.mdb").c_str(), kFileMode));
    if (opened) note_size();
    return opened;
  }

  // Gives back the memory that LMDB keeps. The caller holds `growing` alone: no transaction is
  // open. After a failure every transaction fails.
  Result<void> reopen() {
    map_bytes_ = map_bytes();
    forget_lookups();
    mdb_env_close(std::exchange(env_, nullptr));
    auto opened = open_env(map_bytes_, MDB_RDONLY);
    malloc_trim(0);
    return opened;
  }

  // A reader, whose transaction is open, got a value from the map. What lookups read stays mapped;
  // now and then it is let go. The data stays in the page cache.
  void note_lookup(KvBytes value) {
    const auto begin = reinterpret_cast<std::uintptr_t>(value.data());
    const auto end = begin + value.size();
    auto first = first_seen_.load(std::memory_order_relaxed);
    while (begin < first && !first_seen_.compare_exchange_weak(first, begin)) {
    }
    auto last = last_seen_.load(std::memory_order_relaxed);
    while (end > last && !last_seen_.compare_exchange_weak(last, end)) {
    }
    if (lookups_.fetch_add(1, std::memory_order_relaxed) % kLookupsBeforeLettingGo != 0) return;
    const auto page_begin = align_down(first_seen_.load(), kOsPage);
    const auto page_end = align_up(last_seen_.load(), kOsPage);
    static_cast<void>(
        madvise(reinterpret_cast<void*>(page_begin), page_end - page_begin, MADV_DONTNEED));
  }

  // After a reopening that failed, tries again. No lock of ours may be held.
  Result<void> ensure_open() {
    {
      const std::shared_lock lock(growing);
      if (env_ != nullptr) return {};
    }
    const std::unique_lock alone(growing);
    if (env_ != nullptr) return {};
    return open_env(map_bytes_, MDB_RDONLY);
  }
  // Under a lock of `growing`.
  Result<void> usable() const {
    if (env_ != nullptr) return {};
    return fail(Errc::kIo, "lmdb: {} could not be opened again", directory_);
  }

  // What the last commit left. Any thread, without waiting.
  std::size_t size_bytes() const { return size_bytes_.load(std::memory_order_relaxed); }
  void note_size() { size_bytes_.store(used_bytes(), std::memory_order_relaxed); }

  std::size_t used_bytes() const {
    MDB_envinfo info{};
    MDB_stat stat{};
    mdb_env_info(env_, &info);
    mdb_env_stat(env_, &stat);
    return (info.me_last_pgno + 1) * stat.ms_psize;
  }
  std::size_t map_bytes() const {
    MDB_envinfo info{};
    mdb_env_info(env_, &info);
    return info.me_mapsize;
  }
  // The caller holds `growing` alone: no transaction is open.
  Result<void> grow_to(std::size_t bytes) {
    forget_lookups();
    const int rc = mdb_env_set_mapsize(env_, align_up(bytes, 1_MiB));
    if (rc != 0) return fail_lmdb(rc, "grow map");
    return {};
  }

  MDB_env* env() const { return env_; }
  MDB_dbi dbi() const { return dbi_; }
  std::shared_mutex growing;  // shared by every transaction, alone to move the map
  std::mutex writing;         // one writer, taken before `growing`

 private:
  Result<void> open_env(std::size_t map_bytes, unsigned begin_flags) {
    if (const int rc = mdb_env_create(&env_); rc != 0) return fail_lmdb(rc, "create");
    auto opened = [&]() -> Result<void> {
      mdb_env_set_mapsize(env_, align_up(map_bytes, 1_MiB));
      if (const int rc = mdb_env_open(env_, directory_.c_str(), flags_, kFileMode); rc != 0) {
        return fail(fail_lmdb(rc, "open"), "{}", directory_);
      }
      MDB_txn* txn = nullptr;
      if (const int rc = mdb_txn_begin(env_, nullptr, begin_flags, &txn); rc != 0) {
        return fail(fail_lmdb(rc, "begin"), "{}", directory_);
      }
      int rc = mdb_dbi_open(txn, nullptr, 0, &dbi_);
      if (rc == 0) rc = mdb_txn_commit(txn);
      if (rc != 0) return fail(fail_lmdb(rc, "open database"), "{}", directory_);
      return {};
    }();
    if (!opened) mdb_env_close(std::exchange(env_, nullptr));
    return opened;
  }
  void forget_lookups() {
    first_seen_ = ~std::uintptr_t{0};
    last_seen_ = 0;
  }

  std::string directory_;
  unsigned flags_ = 0;
  std::size_t map_bytes_ = 0;  // when it was closed to be opened again
  std::atomic<std::size_t> size_bytes_{0};
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
  // Where in the map lookups found values.
  std::atomic<std::uintptr_t> first_seen_{~std::uintptr_t{0}};
  std::atomic<std::uintptr_t> last_seen_{0};
  std::atomic<unsigned> lookups_{1};
};

// Cursor work that reader and writer have in common.
struct Lookup {
  MDB_txn* txn;
  MDB_dbi dbi;

  Result<std::optional<KvBytes>> get(KvBytes key) const {
    MDB_val k = to_val(key);
    MDB_val v{};
    const int rc = mdb_get(txn, dbi, &k, &v);
    if (rc == MDB_NOTFOUND) return std::optional<KvBytes>();
    if (rc != 0) return fail_lmdb(rc, "get");
    return std::optional<KvBytes>(to_bytes(v));
  }

  template <class Body>
  Result<void> with_cursor(Body body) const {
    MDB_cursor* cursor = nullptr;
    if (const int rc = mdb_cursor_open(txn, dbi, &cursor); rc != 0) return fail_lmdb(rc, "cursor");
    const int rc = body(cursor);
    mdb_cursor_close(cursor);
    if (rc != 0 && rc != MDB_NOTFOUND) return fail_lmdb(rc, "seek");
    return {};
  }

  Result<std::optional<KvReader::Entry>> lower_bound(KvBytes key) const {
    std::optional<KvReader::Entry> found;
    auto sought = with_cursor([&](MDB_cursor* cursor) {
      MDB_val k = to_val(key);
      MDB_val v{};
      const int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
      if (rc == 0) found = KvReader::Entry{to_bytes(k), to_bytes(v)};
      return rc;
    });
    if (!sought) return sought.error();
    return found;
  }

  Result<std::optional<KvReader::Entry>> floor(KvBytes key) const {
    std::optional<KvReader::Entry> found;
    auto sought = with_cursor([&](MDB_cursor* cursor) {
      MDB_val k = to_val(key);
      MDB_val v{};
      int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
      if (rc == 0 && !std::ranges::equal(to_bytes(k), key)) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_PREV);
      } else if (rc == MDB_NOTFOUND) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
      }
      if (rc == 0) found = KvReader::Entry{to_bytes(k), to_bytes(v)};
      return rc;
    });
    if (!sought) return sought.error();
    return found;
  }

  Result<void> scan(KvBytes first, KvBytes last,
                    const std::function<bool(KvBytes, KvBytes)>& visit) const {
    return with_cursor([&](MDB_cursor* cursor) {
      MDB_val k = to_val(first);
      MDB_val v{};
      int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
      while (rc == 0 && std::ranges::lexicographical_compare(to_bytes(k), last) &&
             visit(to_bytes(k), to_bytes(v))) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
      }
      return rc;
    });
  }
};

class LmdbReader final : public KvReader {
 public:
  static Result<std::unique_ptr<KvReader>> begin(std::shared_ptr<Environment> environment) {
    if (auto open = environment->ensure_open(); !open) return open.error();
    std::unique_ptr<LmdbReader> reader(new LmdbReader(std::move(environment)));
    if (auto usable = reader->environment_->usable(); !usable) return usable.error();
    const int rc = mdb_txn_begin(reader->environment_->env(), nullptr, MDB_RDONLY, &reader->txn_);
    if (rc != 0) return fail_lmdb(rc, "begin read");
    return std::unique_ptr<KvReader>(std::move(reader));
  }
  ~LmdbReader() override {
    if (txn_ != nullptr) mdb_txn_abort(txn_);
  }
  Result<std::optional<KvBytes>> get(KvBytes key) override {
    auto found = lookup().get(key);
    if (found && *found) environment_->note_lookup(**found);
    return found;
  }
  Result<std::optional<Entry>> lower_bound(KvBytes key) override {
    return noted(lookup().lower_bound(key));
  }
  Result<std::optional<Entry>> floor(KvBytes key) override { return noted(lookup().floor(key)); }
  Result<void> scan(KvBytes first, KvBytes last,
                    const std::function<bool(KvBytes, KvBytes)>& visit) override {
    return lookup().scan(first, last, [this, &visit](KvBytes key, KvBytes value) {
      environment_->note_lookup(value);
      return visit(key, value);
    });
  }

 private:
  Result<std::optional<Entry>> noted(Result<std::optional<Entry>> found) {
    if (found && *found) environment_->note_lookup((*found)->value);
    return found;
  }
  explicit LmdbReader(std::shared_ptr<Environment> environment)
      : environment_(std::move(environment)), lock_(environment_->growing) {}
  Lookup lookup() const { return {txn_, environment_->dbi()}; }

  std::shared_ptr<Environment> environment_;
  std::shared_lock<std::shared_mutex> lock_;
  MDB_txn* txn_ = nullptr;
};

class LmdbWriter final : public KvWriter {
 public:
  static Result<std::unique_ptr<KvWriter>> begin(std::shared_ptr<Environment> environment) {
    std::unique_ptr<LmdbWriter> writer(new LmdbWriter(std::move(environment)));
    if (auto begun = writer->start(0); !begun) return begun.error();
    return std::unique_ptr<KvWriter>(std::move(writer));
  }
  ~LmdbWriter() override { abort(); }

  Result<std::optional<KvBytes>> get(KvBytes key) override { return lookup().get(key); }
  Result<std::optional<Entry>> lower_bound(KvBytes key) override {
    return lookup().lower_bound(key);
  }
  Result<std::optional<Entry>> floor(KvBytes key) override { return lookup().floor(key); }
  Result<void> scan(KvBytes first, KvBytes last,
                    const std::function<bool(KvBytes, KvBytes)>& visit) override {
    return lookup().scan(first, last, visit);
  }

  Result<void> put(KvBytes key, KvBytes value) override {
    return record({Change::kPut, copy(key), copy(value)});
  }
  Result<void> erase(KvBytes key) override { return record({Change::kErase, copy(key), {}}); }
  Result<void> erase_range(KvBytes first, KvBytes last) override {
    return record({Change::kEraseRange, copy(first), copy(last)});
  }

  Result<void> commit() override {
    while (true) {
      if (txn_ == nullptr) return fail(Errc::kInvalid, "lmdb: the transaction has failed or ended");
      const int rc = mdb_txn_commit(std::exchange(txn_, nullptr));
      if (rc == 0) {
        environment_->note_size();
        release();
        if (bytes_ > kReopenBytes) reopen();
        end();
        return {};
      }
      if (rc != MDB_MAP_FULL) {
        end();
        return fail_lmdb(rc, "commit");
      }
      if (auto replayed = replay(); !replayed) return replayed;
    }
  }

 private:
  struct Change {
    enum Kind { kPut, kErase, kEraseRange } kind;
    std::vector<std::byte> key;
    std::vector<std::byte> value;
  };

  explicit LmdbWriter(std::shared_ptr<Environment> environment)
      : environment_(std::move(environment)), writing_(environment_->writing) {}

  static std::vector<std::byte> copy(KvBytes bytes) { return {bytes.begin(), bytes.end()}; }
  Lookup lookup() const { return {txn_, environment_->dbi()}; }

  // At least `room` beyond what is used, so that a full map is rare. Only growing the map waits for
  // readers to end; otherwise a long scan would hold up every commit.
  Result<void> start(std::size_t room) {
    if (auto open = environment_->ensure_open(); !open) return open;
    const std::size_t used = environment_->used_bytes();  // Only the writer, which is us, adds.
    const std::size_t wanted = used + std::max({kHeadroom, used / 4, room});
    if (environment_->map_bytes() < wanted) {
      const std::unique_lock alone(environment_->growing);
      if (auto grown = environment_->grow_to(wanted + wanted / 4); !grown) return grown;
    }
    lock_ = std::shared_lock(environment_->growing);
    const int rc = mdb_txn_begin(environment_->env(), nullptr, 0, &txn_);
    if (rc != 0) return fail_lmdb(rc, "begin write");
    return {};
  }
  void release() {
    if (lock_.owns_lock()) lock_.unlock();
  }
  void abort() {
    if (txn_ != nullptr) mdb_txn_abort(std::exchange(txn_, nullptr));
    release();
  }
  // The commit is done, whatever becomes of this; the next transaction is told.
  void reopen() {
    const std::unique_lock alone(environment_->growing);
    if (auto reopened = environment_->reopen(); !reopened) {
      log(LogLevel::kError, "lmdb", "{}", reopened.error().message);
    }
  }
  // The next writer may begin, though this object may live on.
  void end() {
    abort();
    if (writing_.owns_lock()) writing_.unlock();
  }

  Result<void> record(Change change) {
    if (txn_ == nullptr) return fail(Errc::kInvalid, "lmdb: the transaction has failed or ended");
    bytes_ += change.key.size() + change.value.size() + 64;
    const int rc = apply(change);
    if (bytes_ <= kReplayBytesMax) {
      changes_.push_back(std::move(change));
    } else {
      changes_ = {};
    }
    if (rc == 0) return {};
    if (rc == MDB_MAP_FULL) return replay();
    end();
    return fail_lmdb(rc, "write");
  }

  int apply(const Change& change) {
    MDB_val key = to_val(change.key);
    MDB_val value = to_val(change.value);
    const MDB_dbi dbi = environment_->dbi();
    if (change.kind == Change::kPut) return mdb_put(txn_, dbi, &key, &value, 0);
    if (change.kind == Change::kErase) {
      const int rc = mdb_del(txn_, dbi, &key, nullptr);
      return rc == MDB_NOTFOUND ? 0 : rc;
    }
    MDB_cursor* cursor = nullptr;
    int rc = mdb_cursor_open(txn_, dbi, &cursor);
    if (rc != 0) return rc;
    MDB_val found{};
    rc = mdb_cursor_get(cursor, &key, &found, MDB_SET_RANGE);
    while (rc == 0 && std::ranges::lexicographical_compare(to_bytes(key), KvBytes(change.value))) {
      rc = mdb_cursor_del(cursor, 0);
      // After a deletion the cursor stands on the next entry, and MDB_NEXT gives that one.
      if (rc == 0) rc = mdb_cursor_get(cursor, &key, &found, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
  }

  // The map was full: again from the start, in a larger one.
  Result<void> replay() {
    abort();
    attempts_ += 1;
    if (auto begun = start((bytes_ * 4 + kHeadroom) << attempts_); !begun) {
      end();
      return begun;
    }
    if (bytes_ > kReplayBytesMax) {
      end();
      return fail(Errc::kBusy, "lmdb: the map was too small for {} bytes, and is grown: try again",
                  bytes_);
    }
    for (const Change& change : changes_) {
      const int rc = apply(change);
      if (rc == MDB_MAP_FULL && attempts_ < 16) return replay();
      if (rc != 0) {
        end();
        return fail_lmdb(rc, "write");
      }
    }
    return {};
  }

  std::shared_ptr<Environment> environment_;
  std::unique_lock<std::mutex> writing_;
  std::shared_lock<std::shared_mutex> lock_;
  MDB_txn* txn_ = nullptr;
  std::vector<Change> changes_;
  std::size_t bytes_ = 0;
  unsigned attempts_ = 0;
};

class LmdbKv final : public Kv {
 public:
  explicit LmdbKv(std::shared_ptr<Environment> environment)
      : environment_(std::move(environment)) {}
  Result<std::unique_ptr<KvReader>> read() override { return LmdbReader::begin(environment_); }
  Result<std::unique_ptr<KvWriter>> write() override { return LmdbWriter::begin(environment_); }
  Result<void> sync() override {
    const std::shared_lock lock(environment_->growing);
    if (auto usable = environment_->usable(); !usable) return usable;
    if (const int rc = mdb_env_sync(environment_->env(), 1); rc != 0) return fail_lmdb(rc, "sync");
    return {};
  }
  std::uint64_t size_bytes() const override { return environment_->size_bytes(); }

 private:
  std::shared_ptr<Environment> environment_;
};

}  // namespace

Result<std::unique_ptr<Kv>> open_lmdb(const std::string& directory, const KvOptions& options) {
  auto environment = std::make_shared<Environment>();
  if (auto opened = environment->open(directory, options); !opened) return opened.error();
  return std::unique_ptr<Kv>(std::make_unique<LmdbKv>(std::move(environment)));
}

}  // namespace clouddisk
