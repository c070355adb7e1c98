// read_gate.h: lets the cleaner know when every read that may still use an old location has ended.
// Reads enter before they look a block up and leave when they have its data.
// Thread: one ring's.
#pragma once

#include <array>
#include <cstdint>

#include "engine/ring/sync.h"

namespace clouddisk {

class ReadGate {
 public:
  explicit ReadGate(Ring& ring) : left_(ring) {}

  class Pass {
   public:
    explicit Pass(ReadGate& gate) : gate_(gate), side_(gate.side_) { ++gate_.inside_[side_]; }
    ~Pass() {
      if (--gate_.inside_[side_] == 0) gate_.left_.wake_all();
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    ReadGate& gate_;
    unsigned side_;
  };

  // Returns when every read that was inside at the call has left; later ones enter by the other
  // side.
  Task<void> drain() {
    while (draining_) co_await left_.wait();
    draining_ = true;
    const unsigned old = side_;
    side_ ^= 1U;
    while (inside_[old] > 0) co_await left_.wait();
    draining_ = false;
    left_.wake_all();
  }

 private:
  unsigned side_ = 0;
  bool draining_ = false;
  std::array<std::uint64_t, 2> inside_{};
  Signal left_;
};

}  // namespace clouddisk
