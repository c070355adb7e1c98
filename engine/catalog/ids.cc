#include "engine/catalog/ids.h"

#include <array>
#include <utility>

namespace clouddisk {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kRegionLetters = {{
    {"cn-hangzhou", "bp"},
    {"cn-beijing", "2z"},
    {"cn-shanghai", "uf"},
    {"cn-shenzhen", "wz"},
    {"cn-qingdao", "m5"},
    {"cn-zhangjiakou", "8v"},
    {"cn-hongkong", "j6"},
    {"ap-southeast-1", "t4"},
}};

constexpr std::string_view kAlphabet = "0123456789abcdefghijklmnopqrstuvwxyz";

}  // namespace

std::string region_letters(std::string_view region) {
  for (const auto& [known, letters] : kRegionLetters) {
    if (known == region) return std::string(letters);
  }
  std::string letters;
  const std::size_t dash = region.find('-');
  const std::string_view tail = dash == std::string_view::npos ? region : region.substr(dash + 1);
  for (const char c : tail) {
    if (kAlphabet.find(c) != std::string_view::npos) letters.push_back(c);
    if (letters.size() == 2) break;
  }
  letters.resize(2, 'x');
  return letters;
}

std::string chain_id_of(std::string_view disk_id) {
  return "sl-" + std::string(disk_id.substr(disk_id.find('-') + 1));
}

std::string make_id(std::string_view prefix, std::string_view region, Random& random) {
  std::string id(prefix);
  id += '-';
  id += region_letters(region);
  while (id.size() < prefix.size() + 1 + kIdRunLength) {
    id += kAlphabet[random.below(kAlphabet.size())];
  }
  return id;
}

}  // namespace clouddisk
