// batch_client.h: an NBD client that asks for much with few system calls. Whatever is ready to go
// on a connection leaves in one send, and one receive takes all answers that are there: so what is
// measured is the server, and a server that answers in batches shows it.
//
// Thread: run_batch() serves all connections on the thread that calls it, and returns when done.
// Errors: values. An error that the server answers ends the run as well: figures of requests that
// fail mean nothing.
#pragma once

#include <cstdint>
#include <string>

#include "bench/latency_histogram.h"
#include "engine/base/result.h"
#include "engine/base/units.h"

namespace clouddisk::bench {

struct BatchOptions {
  enum class Load { kRead, kWrite };

  std::string socket_path;
  std::string export_name;
  Load load = Load::kRead;
  bool fua = false;         // each write has FUA
  bool flush_each = false;  // each write is followed by a flush; the two count as one operation
  unsigned connections = 1;
  unsigned depth = 64;  // operations in flight on each connection
  std::uint32_t block_bytes = 4096;
  std::uint64_t span_bytes = 0;  // the beginning of the export that is used; 0: all of it
  double seconds = 4;            // longer when nothing was answered by then
  std::uint64_t seed = 1;
};

struct BatchReport {
  std::uint64_t operations = 0;  // completed within the time
  double seconds = 0;
  LatencyHistogram latency;  // from the send that an operation left in to its last answer
  std::uint64_t sends = 0;   // system calls
  std::uint64_t receives = 0;
};

// At random offsets, aligned to block_bytes. kInvalid: options that make no sense for the export;
// otherwise what open_export() says, and kIo when the server leaves or answers with an error.
Result<BatchReport> run_batch(const BatchOptions& options);

}  // namespace clouddisk::bench
