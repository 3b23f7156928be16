// Choosing experts: the k largest scores of each token, ties to the lowest expert id.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// ids[t,0..k) by falling scores[t,e] + bias[e]; gates[t,j] = scores[t, ids[t,j]], without the bias
// and not renormalized.
// counts[e] += the number of (t, j) with ids[t,j] == e.
struct TopK {
  static constexpr char kName[] = "top_k";
  Tensor scores;  // [tokens, experts]
  Tensor bias;    // [experts]; absent means zeros
  Tensor ids;     // out int32 [tokens, k], 1 <= k <= experts
  Tensor gates;   // out [tokens, k]
  Tensor counts;  // in/out int64 [experts], added to
  auto Inputs() { return std::array{&scores, &bias}; }
  auto Outputs() { return std::array{&ids, &gates, &counts}; }
  void Check() const;
};
void ComputeOnCpu(const TopK& op);
void ComputeOnCuda(const TopK& op, Stream& stream);

// The gradient of everything that reads the scores:
//   dscores[t,e] = column[e] + sum_j 1[ids[t,j] == e] dgates[t,j]
// `column` is the balance losses' gradient, the same for each token.
struct ScoresGradient {
  static constexpr char kName[] = "scores_gradient";
  Tensor ids;      // int32 [tokens, k]
  Tensor dgates;   // [tokens, k]
  Tensor column;   // [experts]
  Tensor dscores;  // out [tokens, experts]
  auto Inputs() { return std::array{&ids, &dgates, &column}; }
  auto Outputs() { return std::array{&dscores}; }
  void Check() const;
};
void ComputeOnCpu(const ScoresGradient& op);
void ComputeOnCuda(const ScoresGradient& op, Stream& stream);

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
  Tensor gates;  // [tokens, k], as TopK gives them
  Tensor count;  // in/out int64 [1], added to
  auto Inputs() { return std::array{&gates}; }
  auto Outputs() { return std::array{&count}; }
  void Check() const;
};
void ComputeOnCpu(const CountUnrouted& op);
void ComputeOnCuda(const CountUnrouted& op, Stream& stream);

}  // namespace unipool
