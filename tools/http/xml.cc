#include "tools/http/xml.h"

#include <nlohmann/json.hpp>

namespace clouddisk {
namespace {

// XML 1.0 can't say most control characters, in whatever way.
std::string xml_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\r':
        out += "&#13;";
        break;
      default: {
        const bool unsayable = static_cast<unsigned char>(c) < ' ' && c != '\t' && c != '\n';
        out += unsayable ? '?' : c;
      }
    }
  }
  return out;
}

void add_element(std::string& out, std::string_view name, const nlohmann::json& value) {
  if (value.is_array()) {
    for (const auto& entry : value) add_element(out, name, entry);
    return;
  }
  out += '<';
  out += name;
  out += '>';
  if (value.is_object()) {
    for (const auto& [member, content] : value.items()) add_element(out, member, content);
  } else if (value.is_string()) {
    out += xml_text(value.get_ref<const std::string&>());
  } else if (!value.is_null()) {
    out += value.dump();
  }
  out += "</";
  out += name;
  out += '>';
}

}  // namespace

std::string to_xml(std::string_view json, std::string_view root) {
  std::string out = "<?xml version='1.0' encoding='UTF-8'?>";
  add_element(out, root, nlohmann::json::parse(json, nullptr, false));
  return out;
}

}  // namespace clouddisk
