// xml.h: an answer's JSON as the XML that Format=XML asks for: an element a member, a list's
// element once an entry, numbers and booleans as JSON writes them. Pure.
#pragma once

#include <string>
#include <string_view>

namespace clouddisk {

// `json`: an object, as the API answers; what does not parse is the text of the root. `root`: the
// name of the outermost element.
std::string to_xml(std::string_view json, std::string_view root);

}  // namespace clouddisk
