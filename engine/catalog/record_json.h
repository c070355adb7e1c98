// record_json.h: what the JSON forms of records are written and read with. For records.cc,
// image_record.cc and task_record.cc alone.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/catalog/records.h"

namespace clouddisk::record_json {

using Json = nlohmann::json;

inline std::int64_t to_number(WallTime time) {
  return time.time_since_epoch().count();
}

inline Json to_json_list(const std::vector<Tag>& tags) {
  Json list = Json::array();
  for (const Tag& tag : tags) list.push_back({tag.key, tag.value});
  return list;
}

inline Json to_json_list(const std::vector<AppliedPolicy>& policies) {
  Json list = Json::array();
  for (const AppliedPolicy& one : policies) {
    list.push_back({one.policy_id, to_number(one.done_until)});
  }
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
  void read(const char* member, std::vector<AppliedPolicy>& into) {
    const Json* value = find(member, &Json::is_array);
    if (value == nullptr) return;
    for (const Json& one : *value) {
      if (!one.is_array() || one.size() != 2 || !one[0].is_string() ||
          !one[1].is_number_integer()) {
        problem_ = member;
        return;
      }
      into.push_back({one[0].get<std::string>(), WallTime(Duration(one[1].get<std::int64_t>()))});
    }
  }
  void read(const char* member, std::vector<std::string>& into) {
    const Json* value = find(member, &Json::is_array);
    if (value == nullptr) return;
    for (const Json& one : *value) {
      if (!one.is_string()) return refuse(member);
      into.push_back(one.get<std::string>());
    }
  }
  // A list of objects, each as text.
  std::vector<std::string> objects(const char* member) {
    std::vector<std::string> texts;
    const Json* value = find(member, &Json::is_array);
    if (value == nullptr) return texts;
    for (const Json& one : *value) texts.push_back(one.dump());
    return texts;
  }
  void refuse(const char* member) {
    if (problem_.empty()) problem_ = member;
  }
  // Members that records of older programs lack.
  template <class T>
  void read_newer(const char* member, T& into) {
    if (problem_.empty() && json_.contains(member)) read(member, into);
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

}  // namespace clouddisk::record_json
