// Runs a function on n threads, each the rank of a group of LocalCommunicators, under a watchdog:
// a test that hangs says where and ends the process.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace unipool::testing {

// `body` gets the rank's communicator, valid for the call; each thread runs OpenMP with one thread.
void OnRanks(int ranks, const std::function<void(Communicator&)>& body);
// The same with ownership, for bodies that build ProcessGroups.
void OnRanksOwned(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body);

}  // namespace unipool::testing
