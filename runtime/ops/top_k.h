// The k largest scores of each row, and sums over tokens of a router's output. The router itself
// uses RouteTokens.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// ids[t,0..k) = indices of the k largest scores[t,i] in descending order, ties to the lowest index;
// values[t,j] = scores[t, ids[t,j]].
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

// sums[e] += sum_t scores[t,e] in double. The CPU adds the tokens in order; CUDA adds them in
// blocks that depend only on the number of tokens.
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

// Counts what a layer does not send to its experts (model/method.md#unrouted-choices):
//   tokens += number of tokens whose largest score gates[t,0] is <= 0
//   choices[e] += number of (t, j) with ids[t,j] == e and gates[t,j] == 0
struct CountUnrouted {
  static constexpr char kName[] = "count_unrouted";
  Tensor ids;      // int32 [tokens, k], output of RouteTokens, each in [0, experts)
  Tensor gates;    // [tokens, k], output of RouteTokens
  Tensor tokens;   // in/out int64 [1], added to
  Tensor choices;  // in/out int64 [experts], added to
  auto Inputs() { return std::array{&ids, &gates}; }
  auto Outputs() { return std::array{&tokens, &choices}; }
  void Check() const;
};
void ComputeOnCpu(const CountUnrouted& op);
void ComputeOnCuda(const CountUnrouted& op, Stream& stream);

}  // namespace unipool
