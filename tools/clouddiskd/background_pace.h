// background_pace.h: how fast resync and scrub go beside the disks of all reactors.
//
// A disk that waits for its own limit gets all that its level promises: what is left of the devices
// is free. One that does not, and has to wait long for the devices, is slowed by us or by the
// devices themselves: the work yields until that is over, down to a least rate, so that it ends.
// Disks without a level are promised nothing and take what they get, so no rate is right beside
// them: there the work may keep the devices busy for a share of the time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "engine/disk/copy_check.h"
#include "engine/qos/limited_device.h"
#include "snapshot/pace.h"

namespace clouddisk {

// What a disk's clients were served, as sums.
struct ClientLoad {
  std::uint64_t requests = 0;
  std::uint64_t nanoseconds = 0;            // of them, waiting for the limit included
  std::uint64_t throttled_nanoseconds = 0;  // waiting for the limit or the emulated latency
};
ClientLoad load_of(const DeviceCounters& counters);
// What the work beside them is to clients, between two samples.
struct ClientStrain {
  bool held_up = false;  // a disk was below its level because the devices were slow
  bool busy = false;     // a disk without a level was served
  ClientStrain& operator+=(const ClientStrain& other) {
    held_up = held_up || other.held_up;
    busy = busy || other.busy;
    return *this;
  }
};
// Of one disk. `limited`: it has a level at all.
ClientStrain strain_of(const ClientLoad& before, const ClientLoad& now, bool limited);

inline constexpr Duration kPaceStep = std::chrono::milliseconds(100);  // between samples

// What the control ring tells the work, and the work tells it. Any thread.
struct WorkControl {
  static constexpr unsigned kWhole = 100;
  static constexpr unsigned kHalf = 50;
  std::atomic<std::uint64_t> rate{0};   // bytes a second; 0: no limit
  std::atomic<unsigned> share{kWhole};  // of the time, in percent: it pauses for the rest
  std::atomic<bool> stop{false};
  std::atomic<bool> hurry{false};  // somebody waits for what the work holds: no more pauses
  std::atomic<std::uint64_t> spent{0};
};

// One work's pace on one ring.
class ControlledPace final : public WorkPace {
 public:
  // `told` is called with the bytes of each piece.
  ControlledPace(Ring& ring, WorkControl& control, std::function<void(std::uint64_t)> told)
      : ring_(ring), control_(control), told_(std::move(told)), went_on_(ring.now()) {}
  Task<void> spent(std::uint64_t bytes) override;
  bool stopped() const override { return control_.stop; }

 private:
  Ring& ring_;
  WorkControl& control_;
  std::function<void(std::uint64_t)> told_;
  TimePoint may_go_on_{};
  TimePoint went_on_;  // when the piece under way was begun
};

}  // namespace clouddisk
