#include "engine/ring/task.h"

#include <array>
#include <new>

namespace clouddisk {
namespace {

constexpr std::size_t kClassBytes = 64;
constexpr std::size_t kClassCount = 128;  // frames of up to 8 KiB are recycled

struct FreeFrame {
  FreeFrame* next;
};

struct FrameCache {
  std::array<FreeFrame*, kClassCount> free{};
  ~FrameCache() {
    for (FreeFrame* head : free) {
      while (head != nullptr) ::operator delete(std::exchange(head, head->next));
    }
  }
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kRecycle = false;  // Let the sanitizer see each frame's own life.
#else
constexpr bool kRecycle = true;
#endif

thread_local FrameCache cache;

}  // namespace

thread_local detail::StartUnderWay* detail::StartUnderWay::innermost = nullptr;

void* allocate_frame(std::size_t size) {
  const std::size_t index = (size - 1) / kClassBytes;
  if (!kRecycle || index >= kClassCount) return ::operator new(size);
  if (FreeFrame* head = cache.free[index]; head != nullptr) {
    cache.free[index] = head->next;
    return head;
  }
  return ::operator new((index + 1) * kClassBytes);
}

void release_frame(void* frame, std::size_t size) noexcept {
  const std::size_t index = (size - 1) / kClassBytes;
  if (!kRecycle || index >= kClassCount) {
    ::operator delete(frame);
    return;
  }
  auto* node = static_cast<FreeFrame*>(frame);
  node->next = cache.free[index];
  cache.free[index] = node;
}

}  // namespace clouddisk
