// Dense matrix product, row-major:
//   c[m,n] = op(a)[m,k] * op(b)[k,n] + (accumulate ? c : 0)
// where op(x) is x, or its transpose when transpose_x (then a is [k,m], b is [n,k]).
// Each row of c is computed with the same order of additions over k on any number of threads: c is
// cut into tiles by its shape alone. The contents of one row never touch another row's bits.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

struct Gemm {
  static constexpr char kName[] = "gemm";
  Tensor a;
  Tensor b;
  Tensor c;  // out, or in/out where `accumulate`
  bool transpose_a;
  bool transpose_b;
  bool accumulate;
  auto Inputs() { return std::array{&a, &b}; }
  auto Outputs() { return std::array{&c}; }
  void Check() const;
};
void ComputeOnCpu(const Gemm& op);

}  // namespace unipool
