// The k largest scores of each token, ties to the lowest id, of words or whatever is scored; and
// sums over tokens of what a router gave. The router itself chooses in RouteTokens.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// ids[t,0..k) by falling scores[t,i]; values[t,j] = scores[t, ids[t,j]].
struct TopK {
  static constexpr char kName[] = "top_k";
  Tensor scores;  // [tokens, count]
  Tensor ids;     // out int32 [tokens, k], 1 <= k <= count
  Tensor values;  // out [tokens, k]
  auto Inputs() { return std::array{&scores}; }
  auto Outputs() { return std::array{&ids, &values}; }
  void Check() const;
};
void ComputeOnCpu(const TopK& op);
void ComputeOnCuda(const TopK& op, Stream& stream);

// sums[e] += sum_t scores[t,e], in double; the CPU takes the tokens in order, CUDA in pieces that
// follow from their number.
struct ColumnSums {
  static constexpr char kName[] = "column_sums";
  Tensor scores;  // [tokens, experts]
  Tensor sums;    // in/out float64 [experts], added to
  auto Inputs() { return std::array{&scores}; }
  auto Outputs() { return std::array{&sums}; }
  void Check() const;
};
void ComputeOnCpu(const ColumnSums& op);
void ComputeOnCuda(const ColumnSums& op, Stream& stream);

// count += the number of tokens whose largest score, gates[t,0], is not above zero: NormRouter
// sends them to the lowest expert ids with a gate of zero, so that the layer adds nothing to them.
struct CountUnrouted {
  static constexpr char kName[] = "count_unrouted";
  Tensor gates;  // [tokens, k], as RouteTokens gives them
  Tensor count;  // in/out int64 [1], added to
  auto Inputs() { return std::array{&gates}; }
  auto Outputs() { return std::array{&count}; }
  void Check() const;
};
void ComputeOnCpu(const CountUnrouted& op);
void ComputeOnCuda(const CountUnrouted& op, Stream& stream);

}  // namespace unipool
