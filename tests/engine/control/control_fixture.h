// control_fixture.h: a Control over real replica folders and a fake host, and short ways to ask it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "engine/control/control.h"
#include "tests/engine/catalog/catalog_fixture.h"
#include "tests/engine/control/fake_host.h"

namespace clouddisk {

using Json = nlohmann::json;

struct Answer {
  int http_status = 0;
  Json body;

  bool ok() const { return http_status == 200; }
  std::string code() const { return body.value("Code", ""); }
};

// One life of the daemon.
struct Daemon {
  explicit Daemon(const std::filesystem::path& root, Control::Options options = {.seed = 42},
                  unsigned crash_at = 0, const std::function<void(FakeHost&)>& prepare = {})
      : machine(root), host(root / "storage") {
    host.crash_at(crash_at);
    if (prepare) prepare(host);
    auto opened = machine.ring->block_on(
        Control::open(*machine.ring, *machine.replicas, host, std::move(options)));
    if (!opened) ADD_FAILURE() << opened.error().message;
    CHECK(opened.has_value());
    control = std::move(*opened);
  }
  ~Daemon() { machine.ring->block_on(control->close()); }

  Answer ask(Params params) {
    const Reply reply = machine.ring->block_on(control->perform(std::move(params)));
    Answer answer{reply.http_status, Json::parse(reply.body, nullptr, false)};
    CHECK(answer.body.is_object());
    CHECK(answer.body.contains("RequestId"));
    CHECK(answer.body.contains("Code") == !answer.ok());
    return answer;
  }
  Answer ask(std::string action, Params params = {}) {
    params["Action"] = std::move(action);
    return ask(std::move(params));
  }
  // As ask(), and says that it must be granted.
  Json must(std::string action, Params params = {}) {
    const std::string name = action;
    const Answer answer = ask(std::move(action), std::move(params));
    EXPECT_TRUE(answer.ok()) << name << ": " << answer.body.dump();
    return answer.body;
  }
  std::string create_disk(Params params = {{"Size", "40"}, {"DiskCategory", "cloud_essd"}}) {
    return must("CreateDisk", std::move(params)).value("DiskId", "");
  }
  void attach(const std::string& disk, const std::string& instance = "i-local") {
    must("AttachDisk", {{"DiskId", disk}, {"InstanceId", instance}});
  }
  // As the host says it: of one disk, or of any.
  void release(std::string disk_id = {}) {
    machine.ring->block_on(host.events().released(std::move(disk_id)));
  }
  // The host tells of a snapshot's capture and lets go of what it held. False: it is not wanted.
  bool capture(const std::string& snapshot_id, std::uint64_t changed_bytes = 8192) {
    const auto known = host.snapshots().find(snapshot_id);
    const std::string disk_id = known == host.snapshots().end() ? "" : known->second.disk_id;
    CaptureResult result{snapshot_id, changed_bytes, 100};
    const bool wanted = machine.ring->block_on(host.events().captured(std::move(result)));
    release(disk_id);
    return wanted;
  }
  // The disk as DescribeDisks has it; null when it is not there.
  Json disk(const std::string& id) {
    const Json body = must("DescribeDisks", {{"DiskIds", "[\"" + id + "\"]"}});
    const Json& list = body.at("Disks").at("Disk");
    return list.empty() ? Json() : list[0];
  }

  Machine machine;
  FakeHost host;
  std::unique_ptr<Control> control;
};

class ControlTest : public ::testing::Test {
 protected:
  TempDirectory root_;
};

#define EXPECT_REFUSED(answer, status, error_code)                               \
  do {                                                                           \
    const ::clouddisk::Answer refused_answer = (answer);                         \
    EXPECT_EQ(refused_answer.http_status, status) << refused_answer.body.dump(); \
    EXPECT_EQ(refused_answer.code(), error_code);                                \
    EXPECT_FALSE(refused_answer.body.value("Message", "").empty());              \
  } while (false)

}  // namespace clouddisk
