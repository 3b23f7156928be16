// The one door to the BLAS library. All threading is ours (OpenMP over tiles, experts and heads),
// so the library runs each product on the thread that calls it, from the first call on.
#pragma once

#include <cstdint>

#include "runtime/library_version.h"

namespace unipool {

// c[m,n] = scale * op(a)[m,k] * op(b)[k,n] + (accumulate ? c : 0), row-major, on the calling
// thread; op(x) is the transpose of x where `transposed`. Any size may be 0; k = 0 gives an empty
// sum.
struct Sgemm {
  struct Operand {
    const float* data;
    int64_t stride;  // floats from one row to the next, as stored
    bool transposed = false;
  };
  int64_t m;
  int64_t n;
  int64_t k;
  Operand a;
  Operand b;
  float* c;
  int64_t c_stride;
  float scale = 1.0f;
  bool accumulate = false;
};
// May be called from many threads at once.
void RunSgemm(const Sgemm& product);

// Threads the library itself uses for each product: 1 unless set here. For measurements; no product
// may be running.
void SetBlasThreads(int threads);

// FLOP/s of a product of two size x size matrices on the library's own threads, the median of
// several runs: the rate to compare everything else with. Leaves the library on 1 thread.
double MeasureSgemmFlops(int threads, int64_t size);

// The BLAS library's version and the CPU kernels it has chosen for this machine.
LibraryVersion BlasVersion();

}  // namespace unipool
