// The one door to cuBLASLt, which is loaded at the first product: programs start without it, and on
// machines that have none.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/dtype.h"
#include "runtime/stream.h"

namespace unipool {

// c[m,n] = op(a)[m,k] * op(b)[k,n] + (accumulate ? base : 0), row-major in the stream's device,
// summed in float32 (never TF32); op(x) is the transpose of x where `transposed`. Any size may be
// 0.
struct DenseGemm {
  struct Operand {
    const void* data;
    int64_t stride;  // elements from one row to the next, as stored
    bool transposed = false;
  };
  int64_t m;
  int64_t n;
  int64_t k;
  Operand a;
  Operand b;
  const void* base;  // as c lies, or c itself
  void* c;
  int64_t c_stride;
  DType in;   // of a and b: float32 or bfloat16
  DType out;  // of c: float32, or bfloat16 where a and b are
  bool accumulate = false;
};

// The library's handle, and for each shape met the way of computing it that the library chose.
// Belongs to one stream.
class GemmPlans;
struct DeleteGemmPlans {
  void operator()(GemmPlans* plans) const;
};
using GemmPlansPointer = std::unique_ptr<GemmPlans, DeleteGemmPlans>;
GemmPlansPointer NewGemmPlans();

// Enqueues the product. The first of a shape may allocate; workspace is the stream's scratch.
void RunDenseGemm(const DenseGemm& product, Stream& stream);

}  // namespace unipool
