// The one rule of every reduction between ranks: contributions are taken in rank order, whatever
// the transport and whoever does the sum. So all ranks get the same bits, every run gets the same
// bits, and ranks that are threads get the bits of ranks that are processes.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "comm/communicator.h"

namespace unipool {

// Elements [PartBegin(numel, parts, r), PartBegin(numel, parts, r + 1)) are the r-th of `parts`
// parts whose sizes differ by at most one.
int64_t PartBegin(int64_t numel, int parts, int part);

// The same `numel` elements on every rank: contributions[r] points to those of rank r. Writes the
// result to each of `outputs`, which may be among the contributions.
struct RankOrderReduce {
  DType dtype;
  ReduceOp op;
  int64_t numel;
  absl::Span<const void* const> contributions;
  absl::Span<void* const> outputs;
};
void Reduce(const RankOrderReduce& reduce);

}  // namespace unipool
