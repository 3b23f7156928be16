// Dense matrix product, row-major:
//   c[m,n] = op(a)[m,k] * op(b)[k,n] + (accumulate ? base : 0)
// where op(x) is x, or its transpose when transpose_x (then a is [k,m], b is [n,k]), and base is c
// where it is absent.
// On GPUs a and b are both float32 or both bfloat16, summed in float32; c may be either. There
// cuBLAS decides the order, the same each time for one shape. On CPUs each row of c is computed
// with the same order of additions over k on any number of threads: c is cut into tiles by its
// shape alone. The contents of one row never touch another row's bits.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

struct Gemm {
  static constexpr char kName[] = "gemm";
  Tensor a;
  Tensor b;
  Tensor c;  // out, or in/out where `accumulate` and no base
  bool transpose_a;
  bool transpose_b;
  bool accumulate;
  Tensor base = {};  // of c's type and shape; none of it shares memory with c, or all
  auto Inputs() { return std::array{&a, &b, &base}; }
  auto Outputs() { return std::array{&c}; }
  void Check() const;
};
void ComputeOnCpu(const Gemm& op);
void ComputeOnCuda(const Gemm& op, Stream& stream);

}  // namespace unipool
