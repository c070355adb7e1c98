// api_words.h: the API's refusals name its parameters; who typed a command knows its options. Pure.
#pragma once

#include <string>

namespace clouddisk::cli {

// The message with options and commands in the place of parameters and actions. What stands in
// quotes on its own is the user's and stays.
std::string in_words_of_the_command_line(std::string message);

}  // namespace clouddisk::cli
