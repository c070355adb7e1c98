// catalog_check.h: one copy of the catalog by itself, read and checked whole.
#pragma once

#include "engine/catalog/catalog_store.h"

namespace clouddisk {

struct CatalogCopy {
  bool there = false;
  std::uint64_t commit = 0;
  std::uint64_t records = 0;
};

// kCorrupt says what is wrong with it.
Task<Result<CatalogCopy>> read_catalog_copy(Ring& ring, ReplicaSet& replicas, unsigned replica);

}  // namespace clouddisk
