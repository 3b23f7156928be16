#include <glog/logging.h>

#include "runtime/cublas_cuda.h"
#include "runtime/ops/gemm.h"

namespace unipool {

void ComputeOnCuda(const Gemm& op, Stream& stream) {
  CHECK(op.a.dtype == op.b.dtype) << op.a.ShapeString() << " * " << op.b.ShapeString();
  RunDenseGemm({.m = op.c.dim(0),
                .n = op.c.dim(1),
                .k = op.a.dim(op.transpose_a ? 0 : 1),
                .a = {op.a.data, op.a.dim(1), op.transpose_a},
                .b = {op.b.data, op.b.dim(1), op.transpose_b},
                .base = op.base.absent() ? op.c.data : op.base.data,
                .c = op.c.data,
                .c_stride = op.c.dim(1),
                .in = op.a.dtype,
                .out = op.c.dtype,
                .accumulate = op.accumulate},
               stream);
}

}  // namespace unipool
