// each_copy.h: a step on several copies at once, which is done when it is on all of them.
#pragma once

#include "engine/log/replica_set.h"
#include "engine/ring/sync.h"

namespace clouddisk {

template <class Step>
Task<void> run_on_copy(Step& step, unsigned copy, WaitGroup& under_way) {
  co_await step(copy);
  under_way.done();
}

// `step(copy)` gives a Task<void>. The caller keeps it, and whatever it refers to, until the end.
template <class Step>
Task<void> on_each_copy(Ring& ring, ReplicaMask copies, Step& step) {
  WaitGroup under_way(ring);
  for (unsigned copy = 0; copy < kReplicaCount; ++copy) {
    if ((copies >> copy & 1U) == 0) continue;
    under_way.add();
    spawn(run_on_copy(step, copy, under_way));
  }
  co_await under_way.wait();
}

}  // namespace clouddisk
