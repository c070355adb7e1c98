// mutate.h: inputs like others, for a short run without libFuzzer: bits, bytes and numbers changed,
// stretches left out, doubled or taken from another input. libFuzzer, which sees what code an input
// reaches, goes much further: tools/fuzz.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/base/random.h"
#include "tests/fuzz/fuzz_target.h"

namespace clouddisk::fuzz {

using Bytes = std::vector<std::byte>;

// One of `inputs` (at least one) with some changes; at most kInputMax bytes.
Bytes mutated(const std::vector<Bytes>& inputs, Random& random);

}  // namespace clouddisk::fuzz
