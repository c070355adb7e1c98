// table.h: aligned text tables and human units. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace clouddisk::cli {

class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;  // numbers
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns; an empty cell is shown as "-".
  void add_row(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  // With a title line; every line ends with a newline and has no trailing blanks.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "name: value" lines with the values aligned; entries with an empty value are left out.
std::string fields_text(const std::vector<std::pair<std::string, std::string>>& fields);

// Columns a terminal needs for it: UTF-8 sequences count once.
std::size_t display_width(std::string_view text);
std::string with_thousands(std::uint64_t value);  // "101,800"
std::string shell_quoted(std::string_view text);  // one word for a shell, whatever is in it
std::string gib_text(std::uint64_t gib);          // "40 GiB", "2 TiB"

}  // namespace clouddisk::cli
