// Runs a function on n threads, each the rank of a group of LocalCommunicators. A watchdog aborts a
// test that hangs and lists the ranks that have not returned.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace unipool::testing {

// `body` receives the communicator of its rank, valid during the call. Each thread uses one OpenMP
// thread.
void OnRanks(int ranks, const std::function<void(Communicator&)>& body);
// The same, but `body` owns the communicator; for bodies that build ProcessGroups.
void OnRanksOwned(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body);

}  // namespace unipool::testing
