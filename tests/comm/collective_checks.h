// Checks that every communicator must pass, with exact values, for ranks that are threads and for
// ranks that are processes.
#pragma once

#include <ostream>

#include "absl/types/span.h"
#include "comm/communicator.h"

namespace unipool::testing {

struct CollectiveCheck {
  const char* claim;                  // the name of the test
  void (*check)(Communicator& comm);  // collective
};

absl::Span<const CollectiveCheck> CollectiveChecks();

inline void PrintTo(const CollectiveCheck& check, std::ostream* os) { *os << check.claim; }

}  // namespace unipool::testing
