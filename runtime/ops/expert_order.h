// Which row goes where: from a router's choices to rows sorted by expert, and from rows as they
// arrive at an expert's owner to that owner's own order. Counting sorts, so that the same choices
// give the same order on any device.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// The first slot of a chunk, where `slots` are cut into as many parts as nearly equal.
inline int64_t ChunkBegin(int64_t slots, int64_t chunks, int64_t chunk) {
  return slots * chunk / chunks;
}

// The pairs (t, j) of token t and its j-th choice, sorted by order[ids[t,j]]; of one expert, by
// token and then by choice. Row i of the sorted ones is of token send_index[i], and the pair (t, j)
// is row positions[t,j].
struct SortByExpert {
  static constexpr char kName[] = "sort_by_expert";
  Tensor ids;          // int32 [tokens, k], each in [0, experts)
  Tensor order;        // int32 [experts], a permutation: the place of each expert
  Tensor count_order;  // int32 [experts], a permutation: the place of each expert's count
  Tensor counts;       // out int64 [experts]: counts[count_order[e]] rows are of expert e
  Tensor send_index;   // out int32 [tokens * k]
  Tensor positions;    // out int32 [tokens, k]
  auto Inputs() { return std::array{&ids, &order, &count_order}; }
  auto Outputs() { return std::array{&counts, &send_index, &positions}; }
  void Check() const;
};
void ComputeOnCpu(const SortByExpert& op);
void ComputeOnCuda(const SortByExpert& op, Stream& stream);

// Rows that arrived sorted by (chunk, source, slot), counts[source,slot] of each, get sorted by
// (slot, source): slot s then has rows [offsets[s], offsets[s+1]), and row i is arrival
// to_slot_order[i]. Chunk c is of the slots from ChunkBegin(slots, chunks, c) on: its rows are the
// same range of both orders.
struct OrderArrivals {
  static constexpr char kName[] = "order_arrivals";
  Tensor counts;            // int64 [sources, slots]
  int64_t chunks;           // at least 1
  Tensor offsets;           // out int64 [slots + 1]
  Tensor to_slot_order;     // out int32 [rows], as many as the counts sum up to; or absent
  Tensor to_arrival_order;  // out int32 [rows], its inverse; absent where that is
  auto Inputs() { return std::array{&counts}; }
  auto Outputs() { return std::array{&offsets, &to_slot_order, &to_arrival_order}; }
  void Check() const;
};
void ComputeOnCpu(const OrderArrivals& op);
void ComputeOnCuda(const OrderArrivals& op, Stream& stream);

}  // namespace unipool
