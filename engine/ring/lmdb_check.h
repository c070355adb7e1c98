// lmdb_check.h: whether an LMDB data file may be opened. LMDB 0.9 has no page checksums and works
// on a memory map, so a damaged page can end the process; here it is a value instead.
//
// Reads the meta pages and every branch and leaf page by pread, never what the values hold: those
// carry checksums of their owners. The layout is that of lmdb.h/mdb.c 0.9 (MDB_DATA_VERSION 1).
#pragma once

#include <string>

#include "engine/base/result.h"

namespace clouddisk {

// kCorrupt says what is wrong; kNotFound: no such file. Blocks.
Result<void> check_lmdb_file(const std::string& path);

}  // namespace clouddisk
