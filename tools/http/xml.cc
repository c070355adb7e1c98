#include "tools/http/xml.h"

#include <nlohmann/json.hpp>

#include "tools/http/message.h"

namespace clouddisk {
namespace {

// U+FFFE or U+FFFF in UTF-8.
constexpr std::size_t kNoncharacterSize = 3;
bool begins_with_noncharacter(std::string_view text) {
  return text.starts_with("\xef\xbf\xbe") || text.starts_with("\xef\xbf\xbf");
}

// XML 1.0 can't say most control characters and two others, in whatever way. Of text that is not
// UTF-8 only what is ASCII is kept.
std::string xml_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const bool is_utf8 = valid_utf8(text);
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (begins_with_noncharacter(text.substr(at))) {
      out += '?';
      at += kNoncharacterSize - 1;
      continue;
    }
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
        const bool control = static_cast<unsigned char>(c) < ' ' && c != '\t' && c != '\n';
        const bool unsayable = control || (!is_utf8 && static_cast<unsigned char>(c) > 0x7f);
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
  nlohmann::json value = nlohmann::json::parse(json, nullptr, false);
  if (value.is_discarded()) value = json;
  add_element(out, root, value);
  return out;
}

}  // namespace clouddisk
