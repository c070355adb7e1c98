// api_client.h: the daemon's action API as the commands see it. Blocking.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/control/control.h"
#include "engine/ring/address.h"
#include "tools/clouddisk/outcome.h"

namespace clouddisk::cli {

using Json = nlohmann::json;

class ApiClient {
 public:
  ApiClient(Address address, std::string root) : address_(std::move(address)), root_(root) {}

  // Performs one action for a command: a refusal names its options instead of the API's parameters.
  // When the daemon does not answer, the failure says how to start it.
  Outcome<Json> call(const std::string& action, Params params) const;
  // The same, and a refusal is as the API has it.
  Outcome<Json> perform(const std::string& action, Params params) const;

  // Follows paging to the end and gives the first page's answer with every page's items in
  // `wrapper`.`item`, as in call_all("DescribeDisks", …, "Disks", "Disk").
  Outcome<Json> call_all(const std::string& action, Params params, const std::string& wrapper,
                         const std::string& item) const;

  // Where an attached disk is served; at least one, unix sockets first.
  struct Export {
    std::string address;  // "unix:/run/clouddisk/nbd.sock"
    std::string uri;      // "nbd+unix:///d-…?socket=…"
  };
  Outcome<std::vector<Export>> exports(const std::string& id) const;

  // Where a snapshot is served, read-only.
  struct SnapshotExport {
    std::string uri;
    std::uint64_t size_bytes = 0;
  };
  Outcome<SnapshotExport> snapshot_export(const std::string& id) const;

  // The one disk of that id, as DescribeDisks shows it.
  Outcome<Json> disk(const std::string& id) const;

 private:
  Address address_;
  std::string root_;
};

// A member as text, whatever its type; empty when it is missing or null.
std::string text_of(const Json& object, const std::string& member);
std::uint64_t number_of(const Json& object, const std::string& member);

}  // namespace clouddisk::cli
