// The reduction that all host transports share: contributions are added in rank order, whichever
// rank computes the sum. Hence all ranks get the same bits, all runs with as many ranks get the
// same bits, and so do ranks that are threads and ranks that are processes.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "comm/communicator.h"

namespace unipool {

// First element of part `part` when `numel` elements are split into `parts` parts whose sizes
// differ by at most one. PartBegin(numel, parts, parts) is numel.
int64_t PartBegin(int64_t numel, int parts, int part);

// Reduces `numel` elements: contributions[r] points to those of rank r. Writes the result to each
// of `outputs`, which may be among the contributions. float32, float64, int32 or int64; bfloat16 is
// a CHECK failure, since its sums would lose too much precision.
struct RankOrderReduce {
  DType dtype;
  ReduceOp op;
  int64_t numel;
  absl::Span<const void* const> contributions;
  absl::Span<void* const> outputs;
};
void Reduce(const RankOrderReduce& reduce);

}  // namespace unipool
