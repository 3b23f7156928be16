// The only interface to the BLAS library. UniPool does its own threading (OpenMP over tiles,
// experts and heads), so the library runs every product on the calling thread.
#pragma once

#include <cstdint>

#include "runtime/library_version.h"

namespace unipool {

// One product on the calling thread, row-major:
//   c[m,n] = scale * op(a)[m,k] * op(b)[k,n] + (accumulate ? c : 0)
// op(x) is the transpose of x if `transposed`, else x. Any size may be 0; k = 0 gives an empty sum.
struct Sgemm {
  struct Operand {
    const float* data;
    int64_t stride;  // floats from one stored row to the next
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

// Sets how many threads the library uses for each product; 1 by default. For benchmarks only; no
// product may be running.
void SetBlasThreads(int threads);

// Returns the FLOP/s of a product of two size x size matrices on the library's own threads: the
// median of several runs. Other rates are compared with this one. Resets the library to 1 thread.
double MeasureSgemmFlops(int threads, int64_t size);

// The BLAS library's version and the CPU kernels it has chosen for this machine.
LibraryVersion BlasVersion();

}  // namespace unipool
