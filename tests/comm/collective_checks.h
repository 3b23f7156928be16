// What every communicator must do, by exact values: one table of claims for ranks that are threads
// and for ranks that are processes.
#pragma once

#include <ostream>

#include "absl/types/span.h"
#include "comm/communicator.h"

namespace unipool::testing {

struct CollectiveCheck {
  const char* claim;
  void (*check)(Communicator& comm);  // all ranks call it together
};

absl::Span<const CollectiveCheck> CollectiveChecks();

inline void PrintTo(const CollectiveCheck& check, std::ostream* os) { *os << check.claim; }

}  // namespace unipool::testing
