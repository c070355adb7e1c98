// ring_thread.h: a ring on a thread of its own, for tests whose client side blocks.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <utility>

#include "engine/ring/uring_ring.h"

namespace clouddisk {

class RingThread {
 public:
  RingThread() {
    std::promise<UringRing*> made;
    auto ready = made.get_future();
    thread_ = std::thread([this, &made] {
      auto ring = UringRing::create({});
      if (!ring) {
        made.set_value(nullptr);
        return;
      }
      made.set_value(ring->get());
      (*ring)->run_until([this] { return stop_; });
    });
    ring_ = ready.get();
  }
  ~RingThread() {
    if (ring_ != nullptr) ring_->post([this] { stop_ = true; });
    thread_.join();
  }
  RingThread(const RingThread&) = delete;
  RingThread& operator=(const RingThread&) = delete;

  bool works() const { return ring_ != nullptr; }
  UringRing& ring() { return *ring_; }

  // Runs `function` on the ring's thread and waits for it.
  void call(const std::function<void()>& function) {
    std::promise<void> done;
    ring_->post([&] {
      function();
      done.set_value();
    });
    done.get_future().wait();
  }
  // Runs a coroutine on the ring's thread to its end. `start` makes it there.
  void run(const std::function<Task<void>()>& start) {
    std::promise<void> done;
    ring_->post([&] { spawn(finish(start(), done)); });
    done.get_future().wait();
  }

 private:
  static Task<void> finish(Task<void> task, std::promise<void>& done) {
    co_await std::move(task);
    done.set_value();
  }

  std::thread thread_;
  UringRing* ring_ = nullptr;
  bool stop_ = false;  // the ring's thread alone
};

}  // namespace clouddisk
