#include "engine/base/variant.h"

namespace clouddisk {

#ifdef CLOUDDISK_SIMULATION
Variant broken_variant = Variant::kNone;
#endif

}  // namespace clouddisk
