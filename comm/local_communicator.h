// Ranks that are threads of one process: a single rank for runs without mpirun, several for tests.
// It is also the reference for what each collective computes: sums are taken in rank order.
#pragma once

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "comm/communicator.h"

namespace unipool {

// Returns the members of a new group named 'world', in rank order; each is used by one thread.
// `deadline` bounds each wait for another rank.
std::vector<std::unique_ptr<Communicator>> CreateLocalCommunicators(int size,
                                                                    absl::Duration deadline);

}  // namespace unipool
