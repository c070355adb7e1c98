// task.h: Task<T>, a lazy coroutine: it starts when awaited, and its frame dies with the Task.
//
// Thread: a task runs on the thread of whichever ring resumes it (see ring.h); nothing here locks.
// Errors: a task returns Result<T>; an exception that leaves a coroutine stops the process.
// Lifetime: parameters taken by reference must outlive the co_await. With spawn() nothing waits, so
//   a spawned coroutine takes its parameters by value or owns what they point to.
// GCC 12: no co_await inside a conditional operator or an initializer list, and no lambda coroutine
//   whose closure is a temporary: write a named function.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "engine/base/check.h"

namespace clouddisk {

// Recycles coroutine frames per thread, so that the data path does not allocate in steady state.
void* allocate_frame(std::size_t size);
void release_frame(void* frame, std::size_t size) noexcept;

template <class T>
class Task;

namespace detail {

// A coroutine hands over to another by a tail call, which g++ makes only when it optimizes and does
// not instrument. Without, a loop over tasks that end at once would grow the stack with each turn:
// such builds start a task by an ordinary call and note whether it ended within it.
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
inline constexpr bool kTailCalls = true;
#else
inline constexpr bool kTailCalls = false;
#endif

// One start under way on this thread; only for builds without tail calls.
struct StartUnderWay {
  explicit StartUnderWay(void* started) : frame(started), outer(innermost) { innermost = this; }
  StartUnderWay(const StartUnderWay&) = delete;
  StartUnderWay& operator=(const StartUnderWay&) = delete;
  ~StartUnderWay() { innermost = outer; }

  // Whether `frame` is being started on this thread; its starter then goes on by itself.
  static bool note_end(void* frame) {
    for (StartUnderWay* start = innermost; start != nullptr; start = start->outer) {
      if (start->frame == frame && !start->ended) return start->ended = true;
    }
    return false;
  }

  void* frame;
  StartUnderWay* outer;
  bool ended = false;
  static thread_local StartUnderWay* innermost;
};

struct PromiseBase {
  std::coroutine_handle<> continuation = std::noop_coroutine();

  static void* operator new(std::size_t size) { return allocate_frame(size); }
  static void operator delete(void* frame, std::size_t size) noexcept {
    release_frame(frame, size);
  }

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
      if constexpr (!kTailCalls) {
        if (StartUnderWay::note_end(self.address())) return std::noop_coroutine();
      }
      return self.promise().continuation;
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  template <class U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() noexcept {}
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  struct Awaiter {
    Handle handle;
    bool await_ready() const noexcept { return false; }
    auto await_suspend(std::coroutine_handle<> waiter) noexcept {
      handle.promise().continuation = waiter;
      if constexpr (detail::kTailCalls) {
        return std::coroutine_handle<>(handle);
      } else {
        detail::StartUnderWay start(handle.address());
        handle.resume();
        return !start.ended;  // false: go on at once
      }
    }
    T await_resume() {
      if constexpr (!std::is_void_v<T>) {
        CHECK(handle.promise().value.has_value());
        return std::move(*handle.promise().value);
      }
    }
  };
  Awaiter operator co_await() && noexcept { return Awaiter{handle_}; }

 private:
  Handle handle_;
};

namespace detail {
template <class T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// A coroutine that owns itself: runs at once until it first waits, and frees its frame at the end.
struct Detached {
  struct promise_type {
    static void* operator new(std::size_t size) { return allocate_frame(size); }
    static void operator delete(void* frame, std::size_t size) noexcept {
      release_frame(frame, size);
    }
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};
inline Detached run_detached(Task<void> task) {
  co_await std::move(task);
}
}  // namespace detail

// Starts `task` now, on this thread, and lets it run to its end on its own.
inline void spawn(Task<void> task) {
  detail::run_detached(std::move(task));
}

}  // namespace clouddisk
