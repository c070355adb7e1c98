// worker_pool.h: threads for what blocks: LMDB commits, folder operations, compression.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace clouddisk {

// Any thread may submit. Work is started in the order of submission, what was submitted as first
// before all other. The destructor finishes what was submitted before it returns.
class WorkerPool {
 public:
  explicit WorkerPool(std::size_t threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void submit(std::function<void()> work);
  void submit_first(std::function<void()> work);

 private:
  using Queue = std::deque<std::function<void()>>;
  void submit_to(Queue& queue, std::function<void()> work);
  void run();

  std::mutex mutex_;
  std::condition_variable ready_;
  Queue first_;
  Queue queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace clouddisk
