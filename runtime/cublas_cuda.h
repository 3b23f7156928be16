// The only interface to cuBLASLt. The library is loaded at the first product, so programs also
// start on machines that do not have it.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/dtype.h"
#include "runtime/stream.h"

namespace unipool {

// One product on the stream's device, row-major, accumulated in float32 (never TF32):
//   c[m,n] = op(a)[m,k] * op(b)[k,n] + (accumulate ? base : 0)
// op(x) is the transpose of x if `transposed`, else x. Any size may be 0.
struct DenseGemm {
  struct Operand {
    const void* data;
    int64_t stride;  // elements from one stored row to the next
    bool transposed = false;
  };
  int64_t m;
  int64_t n;
  int64_t k;
  Operand a;
  Operand b;
  const void* base;  // [m, n] with the type and stride of c; may be c itself
  void* c;
  int64_t c_stride;
  DType in;   // type of a and b: float32 or bfloat16
  DType out;  // type of c: float32; or bfloat16 if `in` is bfloat16
  bool accumulate = false;
};

// The library's handle, and for each product shape used so far the algorithm that the library
// selected. Belongs to one stream.
class GemmPlans;
struct DeleteGemmPlans {
  void operator()(GemmPlans* plans) const;
};
using GemmPlansPointer = std::unique_ptr<GemmPlans, DeleteGemmPlans>;
GemmPlansPointer NewGemmPlans();

// Enqueues the product. The first product of a shape may allocate memory; the workspace is the
// stream's scratch memory.
void RunDenseGemm(const DenseGemm& product, Stream& stream);

}  // namespace unipool
