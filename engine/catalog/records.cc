#include "engine/catalog/records.h"

#include <array>
#include <nlohmann/json.hpp>

namespace clouddisk {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 7> kDiskStatusNames = {
    "Creating", "Available", "Attaching", "In_use", "Detaching", "ReIniting", "Deleting"};
constexpr std::array<std::string_view, 6> kInstanceStatusNames = {
    "Pending", "Starting", "Running", "Stopping", "Stopped", "Deleting"};

template <class Status, std::size_t N>
Result<Status> parse_status(const std::array<std::string_view, N>& names, std::string_view text) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == text) return static_cast<Status>(i);
  }
  return fail(Errc::kInvalid, "no such status: '{}'", text);
}

std::int64_t to_number(WallTime time) {
  return time.time_since_epoch().count();
}

Json to_json_list(const std::vector<Tag>& tags) {
  Json list = Json::array();
  for (const Tag& tag : tags) list.push_back({tag.key, tag.value});
  return list;
}

// Reads members of a record; the first that is missing or of the wrong type is remembered.
class MemberReader {
 public:
  MemberReader(std::string_view what, std::string_view text)
      : what_(what), json_(Json::parse(text, nullptr, false)) {
    if (!json_.is_object()) problem_ = "not a JSON object";
  }

  void read(const char* member, std::string& into) {
    if (const Json* value = find(member, &Json::is_string)) into = value->get<std::string>();
  }
  void read(const char* member, bool& into) {
    if (const Json* value = find(member, &Json::is_boolean)) into = value->get<bool>();
  }
  void read(const char* member, std::uint64_t& into) {
    if (const Json* value = find(member, &Json::is_number_unsigned)) {
      into = value->get<std::uint64_t>();
    }
  }
  void read(const char* member, WallTime& into) {
    if (const Json* value = find(member, &Json::is_number_integer)) {
      into = WallTime(Duration(value->get<std::int64_t>()));
    }
  }
  void read(const char* member, std::vector<Tag>& into) {
    const Json* value = find(member, &Json::is_array);
    if (value == nullptr) return;
    for (const Json& tag : *value) {
      if (!tag.is_array() || tag.size() != 2 || !tag[0].is_string() || !tag[1].is_string()) {
        problem_ = member;
        return;
      }
      into.push_back({tag[0].get<std::string>(), tag[1].get<std::string>()});
    }
  }
  template <class Status>
  void read_status(Status& into, Result<Status> (*parse)(std::string_view)) {
    std::string text;
    read("status", text);
    if (!problem_.empty()) return;
    const auto status = parse(text);
    if (status) {
      into = *status;
    } else {
      problem_ = "status";
    }
  }

  template <class Record>
  Result<Record> finish(Record record) const {
    if (problem_.empty()) return record;
    return fail(Errc::kCorrupt, "{} record: member {} is missing or malformed", what_, problem_);
  }

 private:
  const Json* find(const char* member, bool (Json::*is)() const noexcept) {
    if (!problem_.empty()) return nullptr;
    const auto at = json_.find(member);
    if (at == json_.end() || !((*at).*is)()) {
      problem_ = member;
      return nullptr;
    }
    return &*at;
  }

  std::string what_;
  Json json_;
  std::string problem_;
};

}  // namespace

std::string_view name(DiskStatus status) {
  return kDiskStatusNames[static_cast<std::size_t>(status)];
}
std::string_view name(InstanceStatus status) {
  return kInstanceStatusNames[static_cast<std::size_t>(status)];
}
Result<DiskStatus> parse_disk_status(std::string_view text) {
  return parse_status<DiskStatus>(kDiskStatusNames, text);
}
Result<InstanceStatus> parse_instance_status(std::string_view text) {
  return parse_status<InstanceStatus>(kInstanceStatusNames, text);
}

std::string key_of(const DiskRecord& disk) {
  return std::string(kDiskKeys) + disk.id;
}
std::string key_of(const InstanceRecord& instance) {
  return std::string(kInstanceKeys) + instance.id;
}
std::string key_of(const TokenRecord& token) {
  return std::string(kTokenKeys) + token.action + "/" + token.token;
}

std::string to_json(const DiskRecord& disk) {
  const Json json = {
      {"id", disk.id},
      {"region", disk.region},
      {"zone", disk.zone},
      {"name", disk.disk_name},
      {"description", disk.description},
      {"category", disk.category},
      {"level", disk.level},
      {"size_gib", disk.size_gib},
      {"visible_gib", disk.visible_gib},
      {"provisioned_iops", disk.provisioned_iops},
      {"system", disk.system},
      {"status", name(disk.status)},
      {"instance", disk.instance_id},
      {"device", disk.device},
      {"delete_with_instance", disk.delete_with_instance},
      {"delete_auto_snapshot", disk.delete_auto_snapshot},
      {"enable_auto_snapshot", disk.enable_auto_snapshot},
      {"prepaid", disk.prepaid},
      {"resource_group", disk.resource_group},
      {"image", disk.image_id},
      {"created", to_number(disk.created)},
      {"attached", to_number(disk.attached)},
      {"detached", to_number(disk.detached)},
      {"spec_changed", to_number(disk.spec_changed)},
      {"tags", to_json_list(disk.tags)},
  };
  return json.dump();
}

Result<DiskRecord> disk_from_json(std::string_view json) {
  MemberReader reader("disk", json);
  DiskRecord disk;
  reader.read("id", disk.id);
  reader.read("region", disk.region);
  reader.read("zone", disk.zone);
  reader.read("name", disk.disk_name);
  reader.read("description", disk.description);
  reader.read("category", disk.category);
  reader.read("level", disk.level);
  reader.read("size_gib", disk.size_gib);
  reader.read("visible_gib", disk.visible_gib);
  reader.read("provisioned_iops", disk.provisioned_iops);
  reader.read("system", disk.system);
  reader.read_status(disk.status, &parse_disk_status);
  reader.read("instance", disk.instance_id);
  reader.read("device", disk.device);
  reader.read("delete_with_instance", disk.delete_with_instance);
  reader.read("delete_auto_snapshot", disk.delete_auto_snapshot);
  reader.read("enable_auto_snapshot", disk.enable_auto_snapshot);
  reader.read("prepaid", disk.prepaid);
  reader.read("resource_group", disk.resource_group);
  reader.read("image", disk.image_id);
  reader.read("created", disk.created);
  reader.read("attached", disk.attached);
  reader.read("detached", disk.detached);
  reader.read("spec_changed", disk.spec_changed);
  reader.read("tags", disk.tags);
  return reader.finish(std::move(disk));
}

std::string to_json(const InstanceRecord& instance) {
  const Json json = {
      {"id", instance.id},
      {"region", instance.region},
      {"zone", instance.zone},
      {"name", instance.instance_name},
      {"description", instance.description},
      {"host_name", instance.host_name},
      {"image", instance.image_id},
      {"type", instance.type},
      {"status", name(instance.status)},
      {"deletion_protection", instance.deletion_protection},
      {"prepaid", instance.prepaid},
      {"resource_group", instance.resource_group},
      {"created", to_number(instance.created)},
      {"started", to_number(instance.started)},
      {"tags", to_json_list(instance.tags)},
  };
  return json.dump();
}

Result<InstanceRecord> instance_from_json(std::string_view json) {
  MemberReader reader("instance", json);
  InstanceRecord instance;
  reader.read("id", instance.id);
  reader.read("region", instance.region);
  reader.read("zone", instance.zone);
  reader.read("name", instance.instance_name);
  reader.read("description", instance.description);
  reader.read("host_name", instance.host_name);
  reader.read("image", instance.image_id);
  reader.read("type", instance.type);
  reader.read_status(instance.status, &parse_instance_status);
  reader.read("deletion_protection", instance.deletion_protection);
  reader.read("prepaid", instance.prepaid);
  reader.read("resource_group", instance.resource_group);
  reader.read("created", instance.created);
  reader.read("started", instance.started);
  reader.read("tags", instance.tags);
  return reader.finish(std::move(instance));
}

std::string to_json(const TokenRecord& token) {
  const Json json = {
      {"action", token.action},
      {"token", token.token},
      {"parameters", token.parameters_checksum},
      {"reply", token.reply_json},
      {"created", to_number(token.created)},
  };
  return json.dump();
}

Result<TokenRecord> token_from_json(std::string_view json) {
  MemberReader reader("token", json);
  TokenRecord token;
  reader.read("action", token.action);
  reader.read("token", token.token);
  reader.read("parameters", token.parameters_checksum);
  reader.read("reply", token.reply_json);
  reader.read("created", token.created);
  return reader.finish(std::move(token));
}

}  // namespace clouddisk
