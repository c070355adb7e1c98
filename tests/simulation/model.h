// model.h: what a disk may show: too simple to be wrong. The unit is a sector of 512 bytes, whose
// content is a function of its address and of the number (stamp) of the request that wrote it.
//
// Time is a count of begins and ends of requests. A request A comes before B if A ended before B
// began; those that overlap may have taken effect in either order.
//   a read           shows of each sector a request that no other one, ended before the read began,
//                    came after
//   a cut            (a crash, a snapshot) holds every request that ended before a given moment;
//   with
//                    one of which anything is visible, all that came before it; and a request of up
//                    to 64 KiB whole or not at all (I2, I3, I7)
// So what a crash leaves is known exactly only once it has been read: then it is all there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace clouddisk::simulation {

inline constexpr std::uint64_t kSectorSize = 512;
inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// The number of a request; 0 stands for zeros.
using Stamp = std::uint64_t;
inline constexpr Stamp kGarbage = kNever;
using Content = std::vector<Stamp>;  // by sector

void fill_sectors(std::byte* data, std::uint64_t first, std::uint64_t count, Stamp stamp);
// What a sector holds; kGarbage: what nobody wrote there.
Stamp read_stamp(const std::byte* data, std::uint64_t sector);
bool holds(const std::byte* data, std::uint64_t sector, Stamp stamp);

struct Request {
  Stamp stamp = 0;  // also of a trim, which leaves zeros
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = kNever;  // under way, and for ever if the process died
  bool zero = false;
  bool failed = false;
  bool durable = false;  // by itself (FUA)
  bool covers(std::uint64_t sector) const { return sector - first < count; }
  // A trim with ragged ends is several.
  bool atomic() const {
    return count <= 64 * 1024 / kSectorSize && (!zero || (first % 8 == 0 && count % 8 == 0));
  }
  Stamp value() const { return zero ? 0 : stamp; }
};

class DiskModel {
 public:
  DiskModel(std::uint64_t number, std::uint64_t sectors) : number_(number) { resize(sectors); }

  std::uint64_t sectors() const { return cells_.size(); }
  void resize(std::uint64_t sectors);

  // --- Requests ---
  Stamp begin(std::uint64_t first, std::uint64_t count, bool zero, std::uint64_t now);
  void end(Stamp stamp, bool failed, bool durable, std::uint64_t now);
  // Everything that ended before `moment` survives power loss.
  void durable_before(std::uint64_t moment) { durable_ = moment > durable_ ? moment : durable_; }

  // What is wrong with data read between two moments; nothing: all is well.
  std::optional<std::string> check_read(std::uint64_t first, std::span<const std::byte> data,
                                        std::uint64_t begin, std::uint64_t end) const;

  // --- With nothing under way ---
  // Ranges of which only a read can tell; then what it told.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> take_unsure();
  void learn(std::uint64_t first, std::span<const std::byte> data);
  // Everything is durable: history can be forgotten.
  void settle();
  std::size_t history() const { return requests_.size(); }
  // Of every sector.
  Content content() const;

  // --- Cuts ---
  std::uint64_t durable() const { return durable_; }
  // Everything that ended before `must` is in it, nothing that began after `may`.
  std::optional<std::string> check_cut(const Content& content, std::uint64_t must,
                                       std::uint64_t may) const;
  // From here on the disk holds this, durably.
  void become(Content content);

 private:
  struct Cell {
    Stamp now = 0;              // unless unsure
    std::uint32_t touched = 0;  // when a request on it began or ended last
    std::uint16_t under_way = 0;
    bool mixed = false;   // several overlapped since none was under way
    bool unsure = false;  // it holds one of several requests
  };
  const Request* request_of(Stamp stamp) const;
  std::string describe(std::uint64_t sector, Stamp found, const char* what) const;
  bool may_read(std::uint64_t sector, Stamp found, std::uint64_t begin, std::uint64_t end) const;

  std::uint64_t number_;  // in the upper bits of its stamps
  std::uint64_t next_ = 1;
  std::vector<Cell> cells_;
  Content settled_;                // before the requests
  std::vector<Request> requests_;  // since then, in the order of their begin
  std::uint64_t first_request_ = 1;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> unsure_;
  std::uint64_t durable_ = 0;
};

}  // namespace clouddisk::simulation
