// Represents float32 as a sum of bfloat16 terms. Three terms hold its 24 significant bits, so a
// product of float32 and bfloat16 can be computed as bfloat16 products accumulated in float32 with
// the accuracy of float32. Exceptions: values within a factor of 2^24 of the smallest float32, and
// values that round to infinity in bfloat16.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// y[r, b * columns + c] = term `terms[b]` of x[r,c]. Term 0 is x rounded to bfloat16; term i is the
// remainder x - (term 0 + .. + term i-1), rounded to bfloat16.
struct SplitTerms {
  static constexpr char kName[] = "split_terms";
  static constexpr int kMaxBlocks = 4;
  Tensor x;                           // float32 [rows, columns]
  std::array<int, kMaxBlocks> terms;  // term index of each block: 0, 1 or 2
  Tensor y;                           // out bfloat16 [rows, blocks * columns], blocks <= 4
  auto Inputs() { return std::array{&x}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const SplitTerms& op);
void ComputeOnCuda(const SplitTerms& op, Stream& stream);

// Adds the products of three terms, the smallest first:
//   y[r,c] = (x[r, 2 columns + c] + x[r, columns + c]) + x[r,c] + (accumulate ? y[r,c] : 0)
// Columns of x from 3 * columns on are not read.
struct SumTerms {
  static constexpr char kName[] = "sum_terms";
  Tensor x;  // float32 [rows, >= 3 * columns]
  bool accumulate;
  Tensor y;  // out float32 [rows, columns]; in/out if `accumulate`
  auto Inputs() { return std::array{&x}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const SumTerms& op);
void ComputeOnCuda(const SumTerms& op, Stream& stream);

}  // namespace unipool
