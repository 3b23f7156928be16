// Dense matrix product, row-major:
//   c[m,n] = op(a)[m,k] * op(b)[k,n] + (accumulate ? base : 0)
// op(x) is x, or the transpose of x if transpose_x (then a is [k,m], b is [n,k]). An absent base
// means c.
//
// On GPUs a and b are both float32 or both bfloat16, with float32 sums; c may be of either type.
// cuBLAS chooses the order of additions, the same each time for one shape. On CPUs everything is
// float32, and c is split into tiles by its shape alone, so the order of additions over k does not
// depend on the number of threads. The values of one row never affect the bits of another row.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

struct Gemm {
  static constexpr char kName[] = "gemm";
  Tensor a;  // [m,k], or [k,m] if transpose_a
  Tensor b;  // [k,n], or [n,k] if transpose_b
  Tensor c;  // out [m,n]; in/out if `accumulate` and base is absent
  bool transpose_a;
  bool transpose_b;
  bool accumulate;
  Tensor base = {};  // [m,n], type of c, only with `accumulate`; c itself or memory disjoint from c
  auto Inputs() { return std::array{&a, &b, &base}; }
  auto Outputs() { return std::array{&c}; }
  void Check() const;
};
void ComputeOnCpu(const Gemm& op);
void ComputeOnCuda(const Gemm& op, Stream& stream);

}  // namespace unipool
