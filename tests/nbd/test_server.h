// test_server.h: a server on a ring and thread of its own, with memory devices as its exports.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "nbd/server.h"
#include "tests/nbd/memory_device.h"
#include "tests/nbd/raw_client.h"
#include "tests/support/bytes.h"
#include "tests/support/temporary_folder.h"
#include "tests/tools/ring_thread.h"

namespace clouddisk::nbd {

class TestServer {
 public:
  explicit TestServer(ServerOptions options = {}) {
    if (options.addresses.empty()) options.addresses.push_back(unix_address());
    rings_.push_back(std::make_unique<RingThread>());
    if (!works()) return;
    call([&] {
      auto made = Server::create(ring(), std::move(options));
      if (!made) {
        problem_ = made.error().message;
        return;
      }
      server_ = std::move(*made);
      server_->start();
    });
  }
  ~TestServer() {
    if (server_) stop();
    // The last user of a device lets it go on the ring that owns its pool.
    for (auto& [device, ring] : devices_) {
      ring->call([&device = device] { device.reset(); });
    }
  }

  bool works() const { return rings_.front()->works(); }
  const std::string& problem() const { return problem_; }
  const std::string& folder() const { return folder_.path(); }
  std::string socket_path() const { return folder_.path() + "/nbd.sock"; }
  ListenAddress unix_address() const { return {Address::unix_socket(socket_path()), {}}; }
  UringRing& ring() { return rings_.front()->ring(); }
  RingThread& thread() { return *rings_.front(); }
  Server& server() { return *server_; }
  void call(const std::function<void()>& function) { rings_.front()->call(function); }

  // `own_ring`: the device lives on another thread than the server.
  std::shared_ptr<MemoryDevice> add(const std::string& name, MemoryDevice::Options options = {},
                                    bool own_ring = false,
                                    std::shared_ptr<MetaContextSource> contexts = nullptr) {
    if (own_ring) rings_.push_back(std::make_unique<RingThread>());
    RingThread* home = own_ring ? rings_.back().get() : rings_.front().get();
    std::shared_ptr<MemoryDevice> device;
    home->call([&] { device = std::make_shared<MemoryDevice>(home->ring(), options); });
    devices_.emplace_back(device, home);
    call([&] {
      Server::Export added;
      added.name = name;
      added.description = "memory of " + name;
      added.device = device;
      added.contexts = contexts;
      auto result = server_->add_export(std::move(added));
      EXPECT_TRUE(result);
    });
    return device;
  }
  // Runs on the ring of the device.
  void at_home(const std::shared_ptr<MemoryDevice>& device, const std::function<void()>& function) {
    for (auto& [known, ring] : devices_) {
      if (known == device) ring->call(function);
    }
  }
  void remove(const std::string& name) {
    rings_.front()->run([this, name] { return remove_task(name); });
  }
  void stop() {
    rings_.front()->run([this] { return server_->stop(); });
    call([this] { server_.reset(); });
  }

  RawClient connect() { return RawClient(socket_path()); }
  // A client in transmission; the test has failed when it is not.
  RawClient go(const std::string& name, const RawClient::Wish& wish) {
    RawClient client = connect();
    EXPECT_TRUE(client.go(name, wish));
    return client;
  }
  RawClient go(const std::string& name) { return go(name, RawClient::Wish()); }

 private:
  Task<void> remove_task(std::string name) {
    auto removed = co_await server_->remove_export(std::move(name));
    EXPECT_TRUE(removed);
  }

  TemporaryFolder folder_;
  std::vector<std::unique_ptr<RingThread>> rings_;
  std::vector<std::pair<std::shared_ptr<MemoryDevice>, RingThread*>> devices_;
  std::unique_ptr<Server> server_;
  std::string problem_;
};

// Polls until it is true, for at most ten seconds.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return condition();
}

inline Bytes pattern(std::uint64_t size, std::uint64_t seed) {
  return random_bytes(size, seed);
}

}  // namespace clouddisk::nbd
