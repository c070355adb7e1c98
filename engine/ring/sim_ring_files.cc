// sim_ring_files.cc: reads, writes, syncs and reservations of SimRing, with their faults.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/ring/sim_ring.h"

namespace clouddisk {
namespace {

bool aligned(std::uint64_t value) {
  return value % kBlockSize == 0;
}
bool aligned(const void* memory) {
  return aligned(reinterpret_cast<std::uintptr_t>(memory));
}

std::vector<std::byte> gather(std::span<const iovec> from) {
  std::size_t size = 0;
  for (const iovec& piece : from) size += piece.iov_len;
  std::vector<std::byte> payload;
  payload.reserve(size);
  for (const iovec& piece : from) {
    const auto* data = static_cast<const std::byte*>(piece.iov_base);
    payload.insert(payload.end(), data, data + piece.iov_len);
  }
  return payload;
}

}  // namespace

SimMachine::OpenFile* SimRing::attach(Operation& operation, int file, Completion& completion) {
  SimMachine::OpenFile* open = machine_.open_file(file);
  if (open == nullptr) {
    answer(completion, -EBADF);
    return nullptr;
  }
  operation.completion = &completion;
  operation.open = open;
  return open;
}

void SimRing::start_read(int file, std::uint64_t offset, std::span<std::byte> into,
                         Completion& completion) {
  Operation operation;
  operation.kind = Operation::Kind::kRead;
  operation.offset = offset;
  operation.into = into;
  SimMachine::OpenFile* open = attach(operation, file, completion);
  if (open == nullptr) return;
  if (open->direct && !(aligned(offset) && aligned(into.size()) && aligned(into.data()))) {
    return answer(completion, -EINVAL);
  }
  ++open->operations;
  add(std::move(operation), options_.read);
}

void SimRing::start_write(int file, std::uint64_t offset, std::span<const iovec> from,
                          Completion& completion) {
  Operation operation;
  operation.kind = Operation::Kind::kWrite;
  operation.offset = offset;
  SimMachine::OpenFile* open = attach(operation, file, completion);
  if (open == nullptr) return;
  if (!open->writable) return answer(completion, -EBADF);
  bool usable = aligned(offset);
  for (const iovec& piece : from) {
    usable = usable && aligned(piece.iov_base) && aligned(piece.iov_len);
  }
  if (open->direct && !usable) return answer(completion, -EINVAL);
  operation.from.assign(from.begin(), from.end());
  for (const iovec& piece : from) operation.length += piece.iov_len;
  if (random_.one_in(options_.payload_check_one_in)) operation.payload = gather(from);
  ++open->operations;
  add(std::move(operation), options_.write);
}

void SimRing::start_datasync(int file, Completion& completion) {
  Operation operation;
  operation.kind = Operation::Kind::kDatasync;
  SimMachine::OpenFile* open = attach(operation, file, completion);
  if (open == nullptr) return;
  operation.sync = open->node->file.begin_sync();
  ++open->operations;
  add(std::move(operation), options_.datasync);
}

void SimRing::start_allocate(int file, std::uint64_t offset, std::uint64_t length,
                             Completion& completion) {
  Operation operation;
  operation.kind = Operation::Kind::kAllocate;
  operation.offset = offset;
  operation.length = length;
  SimMachine::OpenFile* open = attach(operation, file, completion);
  if (open == nullptr) return;
  if (!open->writable) return answer(completion, -EBADF);
  if (length == 0) return answer(completion, -EINVAL);
  ++open->operations;
  add(std::move(operation), options_.write);
}

std::int32_t SimRing::perform(Operation& operation) {
  if (operation.kind == Operation::Kind::kAnswer) return operation.result;
  SimMachine::OpenFile& open = *operation.open;
  --open.operations;
  const SimFaults& faults = faults_of(operation);
  switch (operation.kind) {
    case Operation::Kind::kRead:
      return perform_read(operation, faults);
    case Operation::Kind::kWrite:
      return perform_write(operation, faults);
    case Operation::Kind::kDatasync:
      return perform_datasync(operation, faults);
    default:
      break;
  }
  if (faults.gone) return -EIO;
  if (faults.read_only) return -EROFS;
  if (random_.one_in(faults.no_space)) return -ENOSPC;
  if (!machine_.reserve(*open.node, operation.offset, operation.length)) return -ENOSPC;
  open.node->file.grow(operation.offset + operation.length);
  return 0;
}

std::int32_t SimRing::perform_read(const Operation& operation, const SimFaults& faults) {
  if (faults.gone || random_.one_in(faults.read_error)) return -EIO;
  const SimFile& file = operation.open->node->file;
  const std::size_t count = file.read(operation.offset, operation.into);
  if (count > 0 && random_.one_in(faults.read_flip)) {
    operation.into[random_.below(count)] ^= static_cast<std::byte>(1U << random_.below(8));
  }
  return static_cast<std::int32_t>(count);
}

std::int32_t SimRing::perform_write(Operation& operation, const SimFaults& faults) {
  // The caller promised that its memory would stay as it is.
  const std::byte* expected = operation.payload.data();
  for (const iovec& piece : operation.from) {
    if (operation.payload.empty()) break;
    const bool payload_unchanged =
        piece.iov_len == 0 || std::memcmp(expected, piece.iov_base, piece.iov_len) == 0;
    CHECK(payload_unchanged);
    expected += piece.iov_len;
  }
  SimMachine::Node& node = *operation.open->node;
  const auto count = static_cast<std::int32_t>(operation.length);
  if (faults.gone) return -EIO;
  if (faults.read_only) return -EROFS;
  if (count == 0) return 0;
  if (random_.one_in(faults.no_space)) return -ENOSPC;
  if (!machine_.reserve(node, operation.offset, operation.length)) return -ENOSPC;
  if (random_.one_in(faults.write_error)) {
    node.file.write_some(operation.offset, gather(operation.from), random_);
    return -EIO;
  }
  if (random_.one_in(faults.lost_write)) {
    node.file.grow(operation.offset + operation.length);
    return count;
  }
  if (random_.one_in(faults.torn_write)) {
    node.file.grow(operation.offset + operation.length);
    node.file.write_some(operation.offset, gather(operation.from), random_);
    return count;
  }
  if (random_.one_in(faults.misdirected_write)) {
    node.file.grow(operation.offset + operation.length);
    misdirect(operation);
    return count;
  }
  if (random_.one_in(faults.delayed_write)) {
    node.file.grow(operation.offset + operation.length);
    write_late(operation);
    return count;
  }
  write_whole(node.file, operation);
  return count;
}

void SimRing::write_whole(SimFile& file, const Operation& operation) {
  std::uint64_t at = operation.offset;
  for (const iovec& piece : operation.from) {
    file.write(at, {static_cast<const std::byte*>(piece.iov_base), piece.iov_len}, random_);
    at += piece.iov_len;
  }
}

void SimRing::write_late(Operation& operation) {
  Operation late;
  late.kind = Operation::Kind::kLateWrite;
  late.node = operation.open->node;
  late.offset = operation.offset;
  late.payload = gather(operation.from);
  const TimePoint when = now() + Duration(static_cast<std::int64_t>(random_.below(1'000'000'000)));
  operations_.emplace(When{when, next_order_++}, std::move(late));
}

// To another place of this file, or of another one on the same device. With no such place the write
// is lost.
void SimRing::misdirect(const Operation& operation) {
  const SimMachine::NodeRef own = operation.open->node;
  std::vector<SimMachine::NodeRef> targets;
  for (const auto& [id, open] : machine_.open_files_) {
    const bool fits = open.node->file.size() >= operation.length;
    if (open.node->device == own->device && fits) targets.push_back(open.node);
  }
  if (targets.empty()) return;
  SimMachine::Node& target = *targets[random_.below(targets.size())];
  const std::uint64_t places = (target.file.size() - operation.length) / kBlockSize + 1;
  const std::uint64_t offset = random_.below(places) * kBlockSize;
  if (&target == own.get() && offset == operation.offset) return;
  if (!machine_.reserve(target, offset, operation.length)) return;
  target.file.write(offset, gather(operation.from), random_);
}

std::int32_t SimRing::perform_datasync(const Operation& operation, const SimFaults& faults) {
  SimFile& file = operation.open->node->file;
  if (faults.read_only && !faults.gone) {
    const bool unsynced = file.has_unsynced();
    file.abandon_sync();
    return unsynced ? -EROFS : 0;
  }
  if (faults.gone || random_.one_in(faults.datasync_error)) {
    file.fail_sync(operation.sync, random_);
    return -EIO;
  }
  file.finish_sync(operation.sync);
  return 0;
}

// The process ends with the operation under way: it happens, happens in part, or does not happen.
void SimRing::abandon(Operation& operation) {
  if (operation.kind == Operation::Kind::kLateWrite) {
    if (random_.one_in(2)) operation.node->file.write(operation.offset, operation.payload, random_);
    return;
  }
  Graveyard::bury(operation.completion->waiter);
  if (operation.open == nullptr) return;
  SimMachine::Node& node = *operation.open->node;
  const SimFaults& faults = faults_of(operation);
  const bool possible = !faults.gone && !faults.read_only;
  const bool happens = random_.one_in(2);
  if (operation.kind == Operation::Kind::kDatasync) {
    if (possible && happens) {
      node.file.finish_sync(operation.sync);
    } else {
      node.file.abandon_sync();
    }
  }
  if (!possible) return;
  const bool allocate = operation.kind == Operation::Kind::kAllocate && happens;
  const bool write = operation.kind == Operation::Kind::kWrite && operation.length > 0;
  if (!allocate && !write) return;
  if (!machine_.reserve(node, operation.offset, operation.length)) return;
  if (allocate) node.file.grow(operation.offset + operation.length);
  if (!write) return;
  if (happens) {
    write_whole(node.file, operation);
  } else {
    node.file.write_some(operation.offset, gather(operation.from), random_);
  }
}

}  // namespace clouddisk
