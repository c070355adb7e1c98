// index_check.h: whether the index of a disk's map is sound in itself: every record, the order of
// versions, and the accounts that checkpoints keep (live blocks by segment, mapped blocks).
#pragma once

#include "engine/map/page_store.h"

namespace clouddisk {

// Worker. kNotFound: it was never finished. kCorrupt says what is wrong; the log rebuilds it.
Result<Checkpoint> check_index(Kv& kv);

}  // namespace clouddisk
