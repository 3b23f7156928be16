// Float32 as a sum of bfloat16: three terms hold its 24 bits, so that a product of float32 and
// bfloat16 runs as products of bfloat16 summed in float32, as exact as in float32 (but for values
// within 2^24 of the smallest, or that round to infinity).
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// y[r, b * columns + c] = term `terms[b]` of x[r,c]: term 0 is x rounded to bfloat16, term i what
// the terms before leave of x, rounded.
struct SplitTerms {
  static constexpr char kName[] = "split_terms";
  static constexpr int kMaxBlocks = 4;
  Tensor x;                           // float32 [rows, columns]
  std::array<int, kMaxBlocks> terms;  // of each block: 0, 1 or 2
  Tensor y;                           // out bfloat16 [rows, blocks * columns], blocks <= 4
  auto Inputs() { return std::array{&x}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const SplitTerms& op);
void ComputeOnCuda(const SplitTerms& op, Stream& stream);

// y[r,c] = (x[r, 2 columns + c] + x[r, columns + c]) + x[r,c] + (accumulate ? y[r,c] : 0): the
// products of three terms, the smallest first. What x has beyond them is not read.
struct SumTerms {
  static constexpr char kName[] = "sum_terms";
  Tensor x;  // float32 [rows, at least 3 * columns]
  bool accumulate;
  Tensor y;  // out, or in/out where `accumulate`: float32 [rows, columns]
  auto Inputs() { return std::array{&x}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const SumTerms& op);
void ComputeOnCuda(const SumTerms& op, Stream& stream);

}  // namespace unipool
