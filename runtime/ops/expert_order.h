// Row orders of the token exchange: sorts a router's choices by expert, and sorts the rows that a
// rank receives by the slots of its own experts. Both are counting sorts, so the same choices give
// the same order on any device.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// Returns the first slot of `chunk` when `slots` slots are split into `chunks` nearly equal parts.
inline int64_t ChunkBegin(int64_t slots, int64_t chunks, int64_t chunk) {
  return slots * chunk / chunks;
}

// Sorts the pairs (t, j) of token t and its j-th choice by order[ids[t,j]], then by token, then by
// j. Sorted row i belongs to token send_index[i]; the pair (t, j) is sorted row positions[t,j].
// A pair whose gate is exactly 0 has no row: it is left out of the rows and the counts,
// positions[t,j] = kNoRow, and send_index[i] = kNoRow for every i from the number of rows on.
struct SortByExpert {
  static constexpr char kName[] = "sort_by_expert";
  Tensor ids;          // int32 [tokens, k], each in [0, experts)
  Tensor gates = {};   // [tokens, k]; absent: every pair has a row
  Tensor order;        // int32 [experts], a permutation: sort key of each expert
  Tensor count_order;  // int32 [experts], a permutation: index of each expert's count
  Tensor counts;       // out int64 [experts]: counts[count_order[e]] = number of rows of expert e
  Tensor send_index;   // out int32 [tokens * k]
  Tensor positions;    // out int32 [tokens, k]
  auto Inputs() { return std::array{&ids, &gates, &order, &count_order}; }
  auto Outputs() { return std::array{&counts, &send_index, &positions}; }
  void Check() const;
};
void ComputeOnCpu(const SortByExpert& op);
void ComputeOnCuda(const SortByExpert& op, Stream& stream);

// Sorts received rows from arrival order (chunk, source, slot) to slot order (slot, source);
// counts[source,slot] rows came from each source for each slot. In slot order, slot s has rows
// [offsets[s], offsets[s+1]), and row i is row to_slot_order[i] of the arrival order. Chunk c holds
// the slots from ChunkBegin(slots, chunks, c) to ChunkBegin(slots, chunks, c + 1), so its rows are
// the same range in both orders.
struct OrderArrivals {
  static constexpr char kName[] = "order_arrivals";
  Tensor counts;            // int64 [sources, slots]
  int64_t chunks;           // number of chunks, >= 1
  Tensor offsets;           // out int64 [slots + 1]
  Tensor to_slot_order;     // out int32 [rows], rows = sum of counts; or absent
  Tensor to_arrival_order;  // out int32 [rows], inverse of to_slot_order; absent if that is absent
  auto Inputs() { return std::array{&counts}; }
  auto Outputs() { return std::array{&offsets, &to_slot_order, &to_arrival_order}; }
  void Check() const;
};
void ComputeOnCpu(const OrderArrivals& op);
void ComputeOnCuda(const OrderArrivals& op, Stream& stream);

}  // namespace unipool
