#include "engine/ring/worker_pool.h"

#include <sys/prctl.h>

#include <utility>

namespace clouddisk {

WorkerPool::WorkerPool(std::size_t threads) {
  threads_.reserve(threads);
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void WorkerPool::submit(std::function<void()> work) {
  submit_to(queue_, std::move(work));
}

void WorkerPool::submit_first(std::function<void()> work) {
  submit_to(first_, std::move(work));
}

void WorkerPool::submit_to(Queue& queue, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    queue.push_back(std::move(work));
  }
  ready_.notify_one();
}

void WorkerPool::run() {
  prctl(PR_SET_NAME, "cd-worker");
  std::unique_lock lock(mutex_);
  while (true) {
    ready_.wait(lock, [this] { return stopping_ || !first_.empty() || !queue_.empty(); });
    Queue& queue = first_.empty() ? queue_ : first_;
    if (queue.empty()) return;
    auto work = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // What it captured dies outside the lock.
    lock.lock();
  }
}

}  // namespace clouddisk
