// What only the real ring has: other threads and sockets.
#include "engine/ring/uring_ring.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/random.h"
#include "engine/ring/buffer_pool.h"
#include "engine/ring/worker_pool.h"
#include "tests/support/ring_ops.h"
#include "tests/support/seed.h"
#include "tests/support/temporary_folder.h"

namespace clouddisk {
namespace {

class UringRingTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = UringRing::create({});
    ASSERT_TRUE(made) << made.error().message;
    ring_ = *std::move(made);
  }
  std::unique_ptr<UringRing> ring_;
};

TEST_F(UringRingTest, PostsFromManyThreadsAllArriveEachThreadsInOrder) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 5'000;
  std::vector<std::vector<int>> seen(kThreads);
  int count = 0;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        ring_->post([&, t, i] {
          seen[t].push_back(i);
          ++count;
        });
        if (i % 100 == 0) std::this_thread::yield();
      }
    });
  }
  ring_->run_until([&] { return count == kThreads * kPosts; });
  for (std::thread& thread : threads) thread.join();
  for (const auto& numbers : seen) {
    ASSERT_EQ(numbers.size(), static_cast<std::size_t>(kPosts));
    EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
  }
}

// The wake-up is armed anew each time: one that got lost would hang here.
TEST_F(UringRingTest, APostWakesARingThatSleeps) {
  std::atomic<int> count{0};
  std::thread other([&] {
    for (int i = 0; i < 50; ++i) {
      ring_->post([&] { ++count; });
      while (count.load() <= i) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  ring_->run_until([&] { return count.load() == 50; });
  other.join();
}

TEST_F(UringRingTest, EnterMovesACoroutineToTheOtherThread) {
  std::unique_ptr<UringRing> away;  // outlives the last post() to it
  std::atomic<UringRing*> other{nullptr};
  bool stop = false;
  std::thread thread([&] {
    auto made = UringRing::create({});
    ASSERT_OK(made);
    away = *std::move(made);
    other = away.get();
    away->run_until([&] { return stop; });
  });
  while (other.load() == nullptr) std::this_thread::yield();
  const auto visit = [](Ring& home, Ring& away) -> Task<bool> {
    const auto here = std::this_thread::get_id();
    co_await away.enter();
    const auto there = std::this_thread::get_id();
    co_await home.enter();
    co_return here != there&& std::this_thread::get_id() == here;
  };
  EXPECT_TRUE(ring_->block_on(visit(*ring_, *other.load())));
  other.load()->post([&] { stop = true; });
  thread.join();
}

TEST_F(UringRingTest, BlockingWorkRunsOnAnotherThread) {
  const auto here = std::this_thread::get_id();
  EXPECT_NE(ring_->block_on(ring_->blocking([] { return std::this_thread::get_id(); })), here);
}

TEST_F(UringRingTest, RegisteredMemoryReadsAndWritesAsAnyOther) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  const TemporaryFolder folder;
  BufferPool pool(*ring_, 4_MiB);
  static_cast<void>(ring_->register_memory(pool.arena()));  // Either way the content is right.
  const File file = open_file(*ring_, folder.path() + "/a");
  const Buffer data = pool.try_allocate(1_MiB);
  const Buffer back = pool.try_allocate(1_MiB);
  for (std::byte& b : data.span()) b = static_cast<std::byte>(random.next());
  EXPECT_EQ(write_at(*ring_, file, 0, data.span()), 1048576);
  EXPECT_EQ(read_at(*ring_, file, 0, back.span()), 1048576);
  EXPECT_EQ(std::memcmp(data.data(), back.data(), 1_MiB), 0);
}

// --- Sockets ---

Task<void> send_all(Ring& ring, int socket, const std::vector<std::byte>& data) {
  for (std::size_t sent = 0; sent < data.size();) {
    const iovec piece{const_cast<std::byte*>(data.data() + sent), data.size() - sent};
    const std::span<const iovec> pieces(&piece, 1);
    const std::int32_t count = co_await ring.send(socket, pieces);
    CO_ASSERT_TRUE(count > 0);
    sent += static_cast<std::size_t>(count);
  }
  ::shutdown(socket, SHUT_WR);
}
Task<std::vector<std::byte>> receive_all(Ring& ring, int socket) {
  std::vector<std::byte> received;
  std::vector<std::byte> part(64_KiB);
  while (true) {
    const std::int32_t count = co_await ring.receive(socket, part);
    EXPECT_GE(count, 0);
    if (count <= 0) co_return received;
    received.insert(received.end(), part.begin(), part.begin() + count);
  }
}

struct SocketPair {
  SocketPair() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0); }
  ~SocketPair() {
    ::close(fds[0]);
    ::close(fds[1]);
  }
  int fds[2] = {-1, -1};
};

TEST_F(UringRingTest, AStreamArrivesWholeAndThenEnds) {
  const std::uint64_t seed = announce_seed();
  Random random(seed);
  std::vector<std::byte> data(5'000'000);
  for (std::byte& b : data) b = static_cast<std::byte>(random.next());
  const SocketPair pair;
  spawn(send_all(*ring_, pair.fds[0], data));
  EXPECT_EQ(ring_->block_on(receive_all(*ring_, pair.fds[1])), data);
}

TEST_F(UringRingTest, ShutdownEndsAWaitingReceive) {
  const SocketPair pair;
  std::int32_t result = 1;
  const auto receiver = [](Ring& ring, int socket, std::int32_t& answer) -> Task<void> {
    std::byte byte{};
    const std::span<std::byte> into(&byte, 1);
    answer = co_await ring.receive(socket, into);
  };
  spawn(receiver(*ring_, pair.fds[1], result));
  sleep_for(*ring_, std::chrono::milliseconds(2));
  EXPECT_EQ(result, 1);
  ::shutdown(pair.fds[1], SHUT_RDWR);
  ring_->run_until([&] { return result != 1; });
  EXPECT_EQ(result, 0);
}

Task<void> accept_into(Ring& ring, int listener, std::int32_t& accepted) {
  accepted = co_await ring.accept(listener);
}

TEST_F(UringRingTest, AcceptGivesConnectionsAndEndsWithItsListener) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length), 0);
  ASSERT_EQ(::listen(listener, 4), 0);
  const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::connect(client, reinterpret_cast<sockaddr*>(&address), length), 0);
  std::int32_t accepted = -1000;
  spawn(accept_into(*ring_, listener, accepted));
  ring_->run_until([&] { return accepted != -1000; });
  ASSERT_GE(accepted, 0);
  const std::vector<std::byte> data(1000, std::byte{4});
  spawn(send_all(*ring_, client, data));
  EXPECT_EQ(ring_->block_on(receive_all(*ring_, accepted)), data);

  std::int32_t ended = -1000;
  spawn(accept_into(*ring_, listener, ended));
  sleep_for(*ring_, std::chrono::milliseconds(2));
  ::shutdown(listener, SHUT_RDWR);
  ring_->run_until([&] { return ended != -1000; });
  EXPECT_LT(ended, 0);
  ::close(accepted);
  ::close(client);
  ::close(listener);
}

// --- WorkerPool ---

TEST(WorkerPool, FinishesWhatWasSubmittedBeforeItGoes) {
  std::atomic<int> done{0};
  {
    WorkerPool pool(3);
    for (int i = 0; i < 1000; ++i) pool.submit([&done] { ++done; });
  }
  EXPECT_EQ(done, 1000);
}

TEST(WorkerPool, StartsWorkInTheOrderOfSubmission) {
  std::vector<int> order;
  {
    WorkerPool pool(1);
    for (int i = 0; i < 100; ++i) pool.submit([&order, i] { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 100U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(WorkerPool, StartsWhatIsFirstBeforeAllThatWaits) {
  std::vector<int> order;
  std::promise<void> go_on;
  std::future<void> told = go_on.get_future();
  {
    WorkerPool pool(1);
    pool.submit([&told] { told.wait(); });
    for (int i = 10; i < 13; ++i) pool.submit([&order, i] { order.push_back(i); });
    for (int i = 0; i < 3; ++i) pool.submit_first([&order, i] { order.push_back(i); });
    go_on.set_value();
  }
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 10, 11, 12}));
}

}  // namespace
}  // namespace clouddisk
