// params.h: typed reading of an action's flat parameters. The first problem is remembered with the
// cloud's code; an action reads everything it needs and then asks once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/catalog/records.h"
#include "engine/catalog/refusal.h"
#include "engine/control/control.h"

namespace clouddisk {

class ParamReader {
 public:
  // Borrows `params`.
  explicit ParamReader(const Params& params) : params_(params) {}

  // An empty value is the same as none.
  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::string text(std::string_view name, std::string_view otherwise = {}) const;
  std::optional<std::string> optional_text(std::string_view name) const;
  // MissingParameter (400) when it is not there.
  std::string required(std::string_view name);
  // InvalidParameter (400) unless decimal, at most 18 digits.
  std::uint64_t number(std::string_view name, std::uint64_t otherwise);
  std::optional<std::uint64_t> optional_number(std::string_view name);
  // InvalidParameter (400) unless true or false.
  bool boolean(std::string_view name, bool otherwise);
  std::optional<bool> optional_boolean(std::string_view name);
  // Name.1, Name.2, … up to the first gap.
  std::vector<std::string> list(std::string_view name) const;
  // Name.1.Member, Name.2.Member, …: the members of each, up to the first gap.
  std::vector<Params> structures(std::string_view name) const;
  // One string that holds a JSON list of strings; `code` and `http_status` when it is not, or is
  // longer than `count_max`.
  std::optional<std::vector<std::string>> json_list(std::string_view name, std::size_t count_max,
                                                    int http_status, std::string_view code);
  std::vector<Tag> tags();

  // Keeps the first.
  void refuse(Refusal refusal);
  const Verdict& problem() const { return problem_; }

 private:
  const std::string* find(std::string_view name) const;

  const Params& params_;
  Verdict problem_;
};

// Checksum of what makes two requests the same: every parameter but the token, the signature and
// what differs with each sending.
std::uint64_t parameters_checksum(const Params& params);

}  // namespace clouddisk
