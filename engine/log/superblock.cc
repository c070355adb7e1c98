// superblock.cc: the bytes of a replica folder's superblock, and what a set of them means.
#include <algorithm>
#include <bit>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/variant.h"
#include "engine/log/replica_set.h"

namespace clouddisk {
namespace {

constexpr std::uint64_t kMagic = 0x0042'5350'4552'4443;  // "CDREPSB\0"
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kChecksumOffset = kSuperblockSize - 8;

bool listed(ReplicaMask mask, unsigned index) {
  return (mask >> index & 1U) != 0;
}

}  // namespace

std::string_view name(ReplicaState state) {
  switch (state) {
    case ReplicaState::kInSync:
      return "in-sync";
    case ReplicaState::kFailed:
      return "failed";
    case ReplicaState::kResyncing:
      return "resyncing";
  }
  return "unknown";
}

void encode_superblock(const Superblock& superblock, std::span<std::byte> block) {
  CHECK(block.size() == kSuperblockSize);
  ByteWriter out(block);
  out.le(kMagic);
  out.le(kVersion);
  out.le(superblock.index);
  out.bytes(std::as_bytes(std::span(superblock.set_uuid)));
  out.le(superblock.generation.value);
  out.le(superblock.in_sync);
  out.le(std::uint32_t{kReplicaCount});
  out.le(superblock.unsynced);
  out.zeros(kChecksumOffset - out.position());
  out.le(checksum64(block.first(kChecksumOffset)));
}

Result<Superblock> decode_superblock(std::span<const std::byte> block) {
  if (block.size() != kSuperblockSize) return fail(Errc::kCorrupt, "superblock: short");
  ByteReader in(block);
  if (in.le<std::uint64_t>() != kMagic) {
    return fail(Errc::kCorrupt, "superblock: not a clouddisk replica (bad magic)");
  }
  const auto version = in.le<std::uint32_t>();
  if (load_le<std::uint64_t>(block.data() + kChecksumOffset) !=
      checksum64(block.first(kChecksumOffset))) {
    return fail(Errc::kCorrupt, "superblock: checksum mismatch");
  }
  if (version > kVersion) {
    return fail(Errc::kUnsupported,
                "superblock: format {} is newer than this clouddisk knows ({}): upgrade clouddisk",
                version, kVersion);
  }
  Superblock superblock;
  superblock.index = in.le<std::uint32_t>();
  const auto uuid = in.bytes(superblock.set_uuid.size());
  std::copy_n(reinterpret_cast<const std::uint8_t*>(uuid.data()), uuid.size(),
              superblock.set_uuid.begin());
  superblock.generation = Generation(in.le<std::uint64_t>());
  superblock.in_sync = in.le<std::uint32_t>();
  const auto count = in.le<std::uint32_t>();
  superblock.unsynced = in.le<std::uint32_t>();
  if (count != kReplicaCount || superblock.index >= kReplicaCount ||
      superblock.in_sync >> kReplicaCount != 0 || superblock.unsynced >> kReplicaCount != 0) {
    return fail(Errc::kCorrupt, "superblock: {} replicas, index {}, members {:#x}, unsynced {:#x}",
                count, superblock.index, superblock.in_sync, superblock.unsynced);
  }
  return superblock;
}

namespace {

Result<SetDecision> decide_new_set(const std::array<FoundReplica, kReplicaCount>& found) {
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!found[i].reachable) {
      return fail(Errc::kInvalid, "a new set needs all {} replica folders; replica {}: {}",
                  kReplicaCount, i + 1, found[i].problem);
    }
    if (!found[i].bare) {
      return fail(Errc::kCorrupt,
                  "no replica folder has a readable superblock, but replica {} is not empty ({}): "
                  "check that the folders are the right ones; to start anew, empty all of them",
                  i + 1, found[i].problem);
    }
  }
  SetDecision decision;
  decision.create = true;
  for (const FoundReplica& replica : found) {
    if (replica.superblock) decision.set_uuid = replica.superblock->set_uuid;
  }
  decision.generation = Generation(kFirstGeneration.value - 1);
  decision.in_sync = (1U << kReplicaCount) - 1;
  return decision;
}

// A set's first start was cut short before its first superblocks were everywhere: no disk was ever
// made in it, and no folder holds anything else.
bool was_never_complete(const std::array<FoundReplica, kReplicaCount>& found) {
  return std::all_of(found.begin(), found.end(), [](const FoundReplica& replica) {
    return replica.reachable && replica.bare &&
           (!replica.superblock || replica.superblock->generation == kFirstGeneration);
  });
}

// Two sets mixed, or folders swapped: refused before anything is written.
Result<void> check_identity(const std::array<FoundReplica, kReplicaCount>& found) {
  const FoundReplica* first = nullptr;
  unsigned first_index = 0;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (!found[i].superblock) continue;
    if (found[i].superblock->index != i) {
      return fail(Errc::kInvalid,
                  "the folder given as replica {} holds replica {} of its set: give the folders in "
                  "their order",
                  i + 1, found[i].superblock->index + 1);
    }
    if (first == nullptr) {
      first = &found[i];
      first_index = i;
    } else if (found[i].superblock->set_uuid != first->superblock->set_uuid) {
      return fail(Errc::kInvalid,
                  "replica {} and replica {} belong to different sets: give folders of one set, or "
                  "empty the wrong one to have it rebuilt",
                  first_index + 1, i + 1);
    }
  }
  return {};
}

ReplicaMask rebuildable(const std::array<FoundReplica, kReplicaCount>& found, ReplicaMask members) {
  ReplicaMask mask = 0;
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    if (found[i].reachable && !listed(members, i)) mask |= 1U << i;
  }
  return mask;
}

}  // namespace

Result<SetDecision> decide_set(const std::array<FoundReplica, kReplicaCount>& found,
                               std::optional<unsigned> trusted_single) {
  const auto readable = std::count_if(found.begin(), found.end(),
                                      [](const auto& f) { return f.superblock.has_value(); });
  if (readable == 0) return decide_new_set(found);
  if (auto same = check_identity(found); !same) return same.error();
  if (readable < kReplicaCount && was_never_complete(found)) return decide_new_set(found);

  Generation newest;
  ReplicaMask listed_members = 0;
  SetDecision decision;
  for (const auto& replica : found) {
    if (!replica.superblock) continue;
    decision.set_uuid = replica.superblock->set_uuid;
    if (replica.superblock->generation > newest) {
      newest = replica.superblock->generation;
      listed_members = replica.superblock->in_sync;
      decision.unsynced = replica.superblock->unsynced;
    } else if (replica.superblock->generation == newest) {
      listed_members &= replica.superblock->in_sync;
      decision.unsynced |= replica.superblock->unsynced;
    }
  }
  decision.generation = newest;

  if (trusted_single) {
    const unsigned index = *trusted_single;
    if (index >= kReplicaCount || !found[index].superblock) {
      return fail(Errc::kInvalid,
                  "replica {} can't be trusted alone: it has no readable superblock", index + 1);
    }
    decision.in_sync = 1U << index;
    decision.rebuild = rebuildable(found, decision.in_sync);
    decision.unsynced &= ~decision.in_sync;
    return decision;
  }
  if (readable < 2) {
    // One folder alone can't know whether the others went on without it (I5).
    unsigned index = 0;
    while (!found[index].superblock) ++index;
    std::string others;
    for (unsigned i = 0; i < kReplicaCount; ++i) {
      if (i != index) others += fmt::format("; replica {}: {}", i + 1, found[i].problem);
    }
    return fail(Errc::kReplicasLost,
                "only replica {} has a superblock, and one alone may be stale{}. Bring another one "
                "back, or accept what it holds with --trust-replica {}",
                index + 1, others, index + 1);
  }
  for (unsigned i = 0; i < kReplicaCount; ++i) {
    // A member one generation behind missed the last superblock write in a crash. Further behind it
    // is an old copy, whatever the others think of it.
    if (listed(listed_members, i) && found[i].superblock &&
        (found[i].superblock->generation.value + 1 >= newest.value ||
         broken(Variant::kTrustStale))) {
      decision.in_sync |= 1U << i;
    }
  }
  if (decision.in_sync == 0) {
    return fail(
        Errc::kReplicasLost,
        "no folder of generation {} is here, only stale ones: bring back one of the members "
        "(mask {:#x}), or accept an older state with --trust-replica N",
        newest.value, listed_members);
  }
  decision.rebuild = rebuildable(found, decision.in_sync);
  decision.unsynced &= ~decision.in_sync;
  return decision;
}

}  // namespace clouddisk
