// faults.cc: what goes wrong, and the rules that keep it within what the engine promises to mask,
// so that every difference is a bug:
//
//   silent  (torn, lost, misdirected and delayed writes, flipped bits, rot) on one replica, the
//           same for the whole history
//   told    (errors, fdatasync, slow, hung, gone, a former state) on one of the other two, which
//           changes only while all three are in sync
//   full    on the replica with told faults, or on all of them
//   index   the files of indexes only; the log has all that they say
// A write of a superblock is not lost in silence: with another replica out, the one that is left
// could not tell that it is the newest. So one replica is always whole. With silent and told faults
// together only one may be left in the set: then writes fail (I6), and reads must not.
#include <algorithm>

#include "tests/simulation/world.h"

namespace clouddisk::simulation {

bool World::all_in_sync() const {
  return life_->replicas->in_sync_mask() == (1U << kReplicaCount) - 1;
}

bool World::is_of_index(const Error& error) const {
  return options_.faults.has(Fault::kIndex) && error.code == Errc::kIo &&
         error.message.find("/root/index") != std::string::npos;
}

// Errors that a client may see.
bool World::excused(const Error& error) const {
  if (is_of_index(error)) return true;
  const bool full = full_active_ || ring_->now() < full_until_;
  switch (error.code) {
    case Errc::kNoSpace:
      return full;
    case Errc::kReplicasLost:
      return full || silent_used_ || (life_->replicas && !life_->replicas->can_write());
    case Errc::kShutdown:
      return false;
    default:
      // The operator's work goes through folders and indexes as well.
      return full || silent_used_ || (told_active_ && error.code == Errc::kTimedOut);
  }
}

void World::apply_faults() {
  if (options_.faults.empty()) return;
  machine_.set_faults(kReplica[silent_], silent_faults_);
  SimFaults superblock = silent_faults_;
  superblock.lost_write = superblock.misdirected_write = superblock.delayed_write = 0;
  machine_.set_faults(std::string(kReplica[silent_]) + "/superblock", superblock);
  if (told_ != silent_)
    machine_.set_faults(kReplica[told_], told_active_ ? told_faults_ : SimFaults{});
}

void World::clear_told_faults() {
  told_active_ = false;
  told_faults_ = {};
  if (full_active_) full_until_ = machine_.now() + std::chrono::seconds(5);
  full_active_ = false;
  for (const char* replica : kReplica) machine_.set_capacity(replica, 4_GiB);
  if (options_.faults.has(Fault::kIndex)) machine_.set_faults("/root/index", {});
  apply_faults();
}

void World::clear_all_faults() {
  silent_faults_ = {};
  clear_told_faults();
}

void World::choose_faults() {
  const Faults& on = options_.faults;
  const auto rate = [this](std::uint64_t usual) {
    return random_.one_in(2) ? random_.between(usual / 8 + 1, usual) : 0;
  };
  // Silent ones come and go; what they did stays until it is read.
  silent_faults_ = {};
  if (random_.one_in(2)) {
    if (on.has(Fault::kTorn)) silent_faults_.torn_write = rate(200);
    if (on.has(Fault::kLost)) silent_faults_.lost_write = rate(200);
    if (on.has(Fault::kMisdirected)) silent_faults_.misdirected_write = rate(200);
    if (on.has(Fault::kDelayed)) silent_faults_.delayed_write = rate(200);
    if (on.has(Fault::kFlip)) silent_faults_.read_flip = rate(100);
    if (on.has(Fault::kTorn) || on.has(Fault::kLost) || on.has(Fault::kMisdirected) ||
        on.has(Fault::kDelayed) || on.has(Fault::kFlip)) {
      silent_used_ = true;
    }
  }
  if (on.has(Fault::kRot) && random_.one_in(6)) {
    silent_used_ = true;
    auto hit = machine_.rot(kReplica[silent_]);
    if (hit) remark("rot in " + *hit);
  }

  if (told_active_ || full_active_) {
    if (random_.one_in(2)) {
      remark("told faults end");
      clear_told_faults();
    }
    apply_faults();
    return;
  }
  const bool index_trouble = on.has(Fault::kIndex) && random_.one_in(8);
  SimFaults index;
  if (index_trouble) index.write_error = 3;
  if (on.has(Fault::kIndex)) machine_.set_faults("/root/index", index);

  static constexpr Fault kTold[] = {Fault::kReadError, Fault::kWriteError, Fault::kSyncError,
                                    Fault::kSlow,      Fault::kHung,       Fault::kGone,
                                    Fault::kFull};
  const Fault fault = kTold[random_.below(std::size(kTold))];
  if (!on.has(fault) || !random_.one_in(3) || !all_in_sync()) {
    apply_faults();
    return;
  }
  machine_.set_faults(kReplica[told_], {});
  do {
    told_ = static_cast<unsigned>(random_.below(kReplicaCount));
  } while (told_ == silent_);
  told_active_ = fault != Fault::kFull;
  told_faults_ = {};
  switch (fault) {
    case Fault::kReadError:
      told_faults_.read_error = random_.between(1, 50);
      break;
    case Fault::kWriteError:
      told_faults_.write_error = random_.between(1, 300);
      break;
    case Fault::kSyncError:
      told_faults_.datasync_error = random_.between(1, 30);
      break;
    case Fault::kSlow:
      told_faults_.slow = std::chrono::milliseconds(random_.between(1, 400));
      break;
    case Fault::kHung:
      told_faults_.hung_until =
          machine_.now() + std::chrono::milliseconds(random_.between(100, 6000));
      break;
    case Fault::kGone:
      told_faults_.gone = true;
      break;
    default: {
      full_active_ = true;
      if (random_.one_in(2)) {
        // One write in so many finds no room.
        told_active_ = true;
        told_faults_.no_space = random_.between(2, 100);
      } else {
        const std::uint64_t room = random_.below(4) * 512_KiB;
        const bool all = random_.one_in(2);
        for (unsigned i = 0; i < kReplicaCount; ++i) {
          if (all || i == told_) {
            machine_.set_capacity(kReplica[i], machine_.used_bytes(kReplica[i]) + room);
          }
        }
      }
    }
  }
  remark(fmt::format("{} on replica {} begins", name(fault), told_ + 1));
  apply_faults();
}

void World::faults_between() {
  const Faults& on = options_.faults;
  if (on.has(Fault::kIndex) && random_.one_in(4) && !volumes_.empty()) {
    SimRing nobody(machine_);
    const auto names = machine_.folders_in("/root/index");
    for (const std::string& folder : names) {
      if (!random_.one_in(2)) continue;
      if (random_.one_in(2)) {
        machine_.corrupt_kv("/root/index/" + folder);
        remark("index " + folder + " damaged");
      } else {
        static_cast<void>(nobody.block_on(nobody.remove_tree("/root/index/" + folder)));
        remark("index " + folder + " lost");
      }
    }
  }
  if (!on.has(Fault::kStale)) return;
  // Of a life before the last: two generations passed, by which it is known.
  if (former_ && former_life_ + 1 < lives_ && !told_active_ && former_sound_) {
    if (random_.one_in(3)) {
      machine_.put_back(kReplica[former_of_], *former_);
      remark(fmt::format("replica {} is as it was in life {}", former_of_ + 1, former_life_));
      former_.reset();
    }
  }
  if (!former_ && random_.one_in(4) && machine_.exists(kReplica[0])) {
    former_of_ = static_cast<unsigned>(random_.below(kReplicaCount));
    if (former_of_ == silent_) former_of_ = (silent_ + 1) % kReplicaCount;
    former_ = machine_.image_of(kReplica[former_of_]);
    former_life_ = lives_;
  }
}

}  // namespace clouddisk::simulation
