// Ranks that are threads of one process: one rank for a run without mpirun, several for tests. Also
// the plainest statement of what each collective means: sums are taken in rank order.
#pragma once

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "comm/communicator.h"

namespace unipool {

// The members of one group, in rank order. Hand each to its own thread.
std::vector<std::unique_ptr<Communicator>> CreateLocalCommunicators(int size,
                                                                    absl::Duration deadline);

}  // namespace unipool
