// nbd_memory_server: serves disks in memory, for stock clients in tests and as the ceiling that
// benchmarks compare with. Prints READY; ends on SIGTERM, or when its standard input is closed.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

#include "engine/ring/uring_ring.h"
#include "nbd/server.h"
#include "tests/nbd/memory_device.h"

namespace {

std::atomic<bool> g_stop{false};

int serve(clouddisk::nbd::ServerOptions options, const std::vector<std::string>& names,
          const clouddisk::MemoryDevice::Options& device_options) {
  using namespace clouddisk;
  auto ring = UringRing::create({});
  if (!ring) {
    std::fprintf(stderr, "%s\n", ring.error().message.c_str());
    return 1;
  }
  auto server = nbd::Server::create(**ring, std::move(options));
  if (!server) {
    std::fprintf(stderr, "%s\n", server.error().message.c_str());
    return 1;
  }
  std::vector<std::shared_ptr<MemoryDevice>> devices;
  for (const std::string& name : names) {
    devices.push_back(std::make_shared<MemoryDevice>(**ring, device_options));
    nbd::Server::Export added;
    added.name = name;
    added.description = "memory";
    added.device = devices.back();
    if (auto result = (*server)->add_export(std::move(added)); !result) {
      std::fprintf(stderr, "%s\n", result.error().message.c_str());
      return 1;
    }
  }
  (*server)->start();
  std::puts("READY");
  std::fflush(stdout);
  std::thread watcher([&ring] {
    char byte = 0;
    while (!g_stop && ::read(STDIN_FILENO, &byte, 1) > 0) continue;
    (*ring)->post([] { g_stop = true; });
  });
  (*ring)->run_until([] { return g_stop.load(); });
  (*ring)->block_on((*server)->stop());
  watcher.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("NBD server of disks in memory");
  std::vector<std::string> addresses;
  std::vector<std::string> names = {"disk"};
  std::uint64_t size_mib = 64;
  bool read_only = false;
  std::string tls_folder;
  std::string psk_file;
  bool tls_required = false;
  bool verify_clients = false;
  app.add_option("--address", addresses, "unix:PATH or tcp:HOST:PORT")->required();
  app.add_option("--export", names, "Names of the disks");
  app.add_option("--size-mib", size_mib, "Size of each");
  app.add_flag("--read-only", read_only);
  app.add_option("--tls", tls_folder, "Folder with server-cert.pem and server-key.pem");
  app.add_option("--tls-psk", psk_file, "File with user:hexkey");
  app.add_flag("--tls-required", tls_required);
  app.add_flag("--verify-clients", verify_clients);
  CLI11_PARSE(app, argc, argv);

  clouddisk::nbd::ServerOptions options;
  for (const std::string& text : addresses) {
    auto address = clouddisk::parse_address(text);
    if (!address) {
      std::fprintf(stderr, "%s\n", address.error().message.c_str());
      return 2;
    }
    options.addresses.push_back({*address, {}});
    if (tls_required) options.addresses.back().tls = clouddisk::nbd::TlsPolicy::kRequired;
  }
  if (!tls_folder.empty() || !psk_file.empty()) {
    auto loaded = clouddisk::nbd::TlsCredentials::load(tls_folder, psk_file, verify_clients);
    if (!loaded) {
      std::fprintf(stderr, "%s\n", loaded.error().message.c_str());
      return 1;
    }
    options.tls = *loaded;
  }
  clouddisk::MemoryDevice::Options device;
  device.size_bytes = size_mib << 20;
  device.read_only = read_only;
  return serve(std::move(options), names, device);
}
