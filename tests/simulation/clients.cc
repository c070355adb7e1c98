// clients.cc: who reads and writes, many at once.
#include <algorithm>
#include <cstring>

#include "tests/simulation/phase.h"

namespace clouddisk::simulation {

std::shared_ptr<Disk> World::disk_of(const VolumeState& volume) {
  return open_volume(volume.id).find(volume.record.storage);
}

VolumeState& World::any_volume() {
  auto it = volumes_.begin();
  std::advance(it, static_cast<std::ptrdiff_t>(random_.below(volumes_.size())));
  return *it->second;
}

Task<void> World::phase(unsigned clients, std::uint64_t requests) {
  auto now = std::make_shared<Phase>(*ring_);
  now->left = std::min(requests, options_.steps - std::min(options_.steps, step_));
  now->pattern = static_cast<Pattern>(random_.below(4));
  now->hot = random_.next();
  now->reads = 20 + random_.below(60);
  now->group.add(clients + 1);
  for (unsigned i = 0; i < clients; ++i) spawn(client(now));
  spawn(operate(now));
  co_await now->group.wait();
}

Task<void> World::client(std::shared_ptr<Phase> phase) {
  while (phase->left > 0 && !failure_) {
    --phase->left;
    ++step_;
    co_await request(phase);
  }
  phase->group.done();
}

// In sectors; whole blocks unless partial ones are wanted.
std::pair<std::uint64_t, std::uint64_t> World::range(Phase& phase, VolumeState& volume,
                                                     bool long_one) {
  const std::uint64_t sectors = volume.model.sectors();
  const bool partial = !long_one && options_.actions.has(Action::kPartial) && random_.one_in(12);
  std::uint64_t count = 8;
  if (long_one) {
    count = 8 * random_.between(17, 256);
  } else if (partial) {
    count = random_.between(1, random_.one_in(5) ? 300 : 20);
  } else if (random_.one_in(10)) {
    count = 8 * random_.between(1, 16);
  }
  count = std::min(count, sectors);
  std::uint64_t first = 0;
  const std::uint64_t room = sectors - count + 1;
  switch (phase.pattern) {
    case Pattern::kUniform:
      first = random_.below(room);
      break;
    case Pattern::kSkewed:
      first = random_.below(5) == 0 ? random_.below(room)
                                    : (phase.hot + random_.below(room / 10 + 1)) % room;
      break;
    case Pattern::kSequential:
      first = std::exchange(volume.cursor, volume.cursor + count) % room;
      break;
    case Pattern::kOverlapping:
      first = (phase.hot + random_.below(std::min<std::uint64_t>(room, 256))) % room;
      break;
  }
  if (!partial) {
    first = align_down(first, 8);
    // The last block may be a part of one.
    if (count % 8 != 0 && first + count != sectors)
      count = std::max<std::uint64_t>(8, align_down(count, 8));
    if (first + count > sectors) count = sectors - first;
  }
  return {first, count};
}

Task<void> World::request(std::shared_ptr<Phase> phase) {
  VolumeState& volume = any_volume();
  ++requests_;
  const std::uint64_t kind = random_.below(100);
  const bool long_one = options_.actions.has(Action::kHuge) && random_.one_in(400);
  const auto [first, count] = range(*phase, volume, long_one);
  const Actions& actions = options_.actions;
  if (kind < phase->reads || !actions.has(Action::kWrite)) {
    co_await read(volume, first, count);
  } else if (kind >= 98 && actions.has(Action::kFlush)) {
    co_await flush(volume);
  } else if (kind >= 93 && actions.has(Action::kTrim)) {
    co_await trim(volume, first, count, random_.one_in(20));
  } else {
    co_await write(volume, first, count, actions.has(Action::kFlush) && random_.one_in(60));
  }
}

Task<void> World::read(VolumeState& volume, std::uint64_t first, std::uint64_t count) {
  note(Action::kRead, volume.id, first, count);
  const std::shared_ptr<Disk> disk = disk_of(volume);
  const std::uint64_t begin = tick();
  auto data =
      co_await disk->read(first * kSectorSize, static_cast<std::uint32_t>(count * kSectorSize));
  const std::uint64_t end = tick();
  if (!data) {
    fail_history(fmt::format("disk {}: read of [{}, {}): {}", volume.id, first, first + count,
                             data.error().message));
  } else if (auto wrong = volume.model.check_read(first, data->span(), begin, end)) {
    fail_history(fmt::format("disk {}: read from {} to {}: {}", volume.id, begin, end, *wrong));
  }
}

Task<void> World::write(VolumeState& volume, std::uint64_t first, std::uint64_t count, bool fua) {
  const std::shared_ptr<Disk> disk = disk_of(volume);
  Buffer data = co_await disk->buffers().allocate(count * kSectorSize);
  note(Action::kWrite, volume.id, first, count);
  const std::uint64_t begin = tick();
  const Stamp stamp = volume.model.begin(first, count, false, begin);
  fill_sectors(data.data(), first, count, stamp);
  std::optional<Task<Result<void>>> begun;
  if (first * kSectorSize / kBlockSize % 2 == 0) {
    begun = disk->write_now(first * kSectorSize, data.span(), fua);
    if (begun) std::memset(data.data(), 0xee, data.size());  // It is not looked at any more.
  }
  Result<void> written;
  if (begun) {
    written = co_await std::move(*begun);
  } else {
    written = co_await disk->write(first * kSectorSize, std::move(data), fua);
  }
  volume.model.end(stamp, !written, fua, tick());
  if (written && fua) volume.model.durable_before(begin);
  if (!written && !excused(written.error())) {
    fail_history(fmt::format("disk {}: write of [{}, {}): {}", volume.id, first, first + count,
                             written.error().message));
  }
}

Task<void> World::trim(VolumeState& volume, std::uint64_t first, std::uint64_t count, bool fua) {
  const std::shared_ptr<Disk> disk = disk_of(volume);
  note(Action::kTrim, volume.id, first, count);
  const std::uint64_t begin = tick();
  const Stamp stamp = volume.model.begin(first, count, true, begin);
  Result<void> done;
  if (random_.one_in(3)) {
    const ZeroOptions options{fua, random_.one_in(2)};
    done = co_await disk->write_zeroes(first * kSectorSize, count * kSectorSize, options);
  } else {
    done = co_await disk->trim(first * kSectorSize, count * kSectorSize, fua);
  }
  volume.model.end(stamp, !done, fua, tick());
  if (done && fua) volume.model.durable_before(begin);
  if (!done && !excused(done.error())) {
    fail_history(fmt::format("disk {}: trim of [{}, {}): {}", volume.id, first, first + count,
                             done.error().message));
  }
}

Task<void> World::flush(VolumeState& volume) {
  note(Action::kFlush, volume.id, 0, 0);
  const std::shared_ptr<Disk> disk = disk_of(volume);
  const std::uint64_t begin = tick();
  auto flushed = co_await disk->flush();
  if (flushed) {
    volume.model.durable_before(begin);
  } else if (!excused(flushed.error())) {
    fail_history(fmt::format("disk {}: flush: {}", volume.id, flushed.error().message));
  }
}

}  // namespace clouddisk::simulation
