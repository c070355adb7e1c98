// change_locks.h: which changes may be made beside each other: those that have no id in common, but
// for ids that both only need to stay as they are. A change that looks further than at a few ids
// has everything for itself.
//
// Thread: one ring's. First come, first served among those that are in each other's way, so that
// nobody waits for ever.
#pragma once

#include <list>
#include <set>
#include <string>
#include <utility>

#include "engine/ring/sync.h"

namespace clouddisk {

class ChangeLocks {
 public:
  explicit ChangeLocks(Ring& ring) : changed_(ring) {}

  using Keys = std::set<std::string>;

 private:
  struct Claim {
    bool all = false;
    Keys keys;
    Keys shared;
    bool revisable = false;
    bool outdated = false;
  };
  static bool collide(const Claim& a, const Claim& b);
  using Claims = std::list<Claim>;

 public:
  class Guard {
   public:
    Guard(ChangeLocks* locks, Claims::iterator claim) : locks_(locks), claim_(claim) {}
    Guard(Guard&& other) noexcept
        : locks_(std::exchange(other.locks_, nullptr)), claim_(other.claim_) {}
    Guard& operator=(Guard&& other) noexcept {
      if (this != &other) {
        unlock();
        locks_ = std::exchange(other.locks_, nullptr);
        claim_ = other.claim_;
      }
      return *this;
    }
    ~Guard() { unlock(); }
    void unlock();
    // One more, of something that nobody else knows yet.
    void add(std::string key) { claim_->keys.insert(std::move(key)); }
    // Lets go of the others, and of all that is shared. Whoever has everything keeps it. Whoever
    // waits for some of what goes and some of what stays may not need both any more: see lock().
    void keep_only(const Keys& keys);
    // Nothing is held: what was waited for has changed.
    bool is_outdated() const { return claim_->outdated; }

   private:
    ChangeLocks* locks_;
    Claims::iterator claim_;
  };

  // None of `keys` is anybody else's until the guard goes; those of `shared` only others share.
  Task<Guard> lock(Keys keys, Keys shared = {});
  // The same, for a caller that finds out what it needs anew when the guard is_outdated().
  Task<Guard> lock_revisable(Keys keys, Keys shared);
  // Nothing is.
  Task<Guard> lock_all();
  // Nobody has anything, or waits for it.
  bool is_idle() const { return claims_.empty(); }
  // Whether somebody has the key, or waits for it.
  bool is_claimed(const std::string& key) const;

 private:
  Task<Guard> claim(Claim wanted);

  Signal changed_;
  Claims claims_;  // held or waited for, in the order of asking
};

}  // namespace clouddisk
