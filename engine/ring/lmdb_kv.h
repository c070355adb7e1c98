// lmdb_kv.h: kv.h over LMDB, one environment a folder.
#pragma once

#include <memory>
#include <string>

#include "engine/ring/kv.h"

namespace clouddisk {

Result<std::unique_ptr<Kv>> open_lmdb(const std::string& directory, const KvOptions& options);

}  // namespace clouddisk
