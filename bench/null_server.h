// null_server.h: an NBD server without a disk: reads are zeros, writes are gone. One receive takes
// many requests and one send answers them, so it is what any server could reach with a client.
//
// Any export name is taken. Simple replies only; nothing is remembered. A thread for each
// connection, which blocks; serve_null() itself waits on the thread that calls it.
#pragma once

#include <cstdint>

namespace clouddisk::bench {

// Serves what `listening` (of listen_unix()) accepts until the descriptor `stop` is readable; then
// all connections are ended.
void serve_null(int listening, std::uint64_t size_bytes, int stop);

}  // namespace clouddisk::bench
