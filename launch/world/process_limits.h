// Limits that the system sets on a process (ulimit, h_vmem of SGE, RLIMIT_NPROC), and how a process
// ends that runs into one: in one line, not with a stack trace and not in a hang.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"

namespace unipool {

// What the smaller of the limits on address space (ulimit -v) and on data (ulimit -d) leaves.
struct AddressSpace {
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

  int64_t limit_bytes = kUnlimited;
  int64_t left_bytes = kUnlimited;
  const char* limit_name = "";  // "address space (ulimit -v)"
};
AddressSpace ReadAddressSpace();

// Address space that the C++ library, OpenMP and OpenBLAS take for `threads` threads that compute.
// OpenBLAS waits for ever if it does not get its part.
int64_t ThreadsAddressBytes(int threads);

// RESOURCE_EXHAUSTED if the system refuses to start `threads` threads at the same time.
absl::Status CheckThreads(int threads);

// An exception that nobody catches, such as std::bad_alloc, prints one line and ends all ranks with
// kExitFailure.
void ReportUncaughtExceptions();

}  // namespace unipool
