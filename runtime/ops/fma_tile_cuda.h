// A tile of a matrix product in float32 without tensor cores, for operands of any type, size and
// alignment. Included only by *_cuda.cu.
#pragma once

#include "runtime/kernel_cuda.h"

namespace unipool {

// A block of 256 threads computes 64 x 64 sums, 4 x 4 a thread.
struct FmaTile {
  static constexpr int kSize = 64;
  static constexpr int kInner = 16;
  static constexpr int kThreads = 256;
  static constexpr int kStride = kSize + 1;
  static constexpr int kSharedFloats = 2 * kInner * kStride;

  float sums[4][4] = {};

  // sums[row][column] += a(row, i) * b(column, i) for i in [0, inner), in order. The functions a
  // and b return zero for rows and columns outside of the matrix. kAlongRows: adjacent values of i
  // are adjacent in memory. `shared` has kSharedFloats floats.
  template <bool kAAlongRows, bool kBAlongRows, typename A, typename B>
  __device__ void Multiply(int64_t inner, const A& a, const B& b, float* shared) {
    float* a_tile = shared;
    float* b_tile = shared + kInner * kStride;
    const int row = static_cast<int>(threadIdx.x) / 16, column = static_cast<int>(threadIdx.x) % 16;
    for (int64_t begin = 0; begin < inner; begin += kInner) {
      Fill<kAAlongRows>(begin, inner, a, a_tile);
      Fill<kBAlongRows>(begin, inner, b, b_tile);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kInner; ++i) {
#pragma unroll
        for (int m = 0; m < 4; ++m) {
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            sums[m][n] +=
                a_tile[i * kStride + row + m * 16] * b_tile[i * kStride + column + n * 16];
          }
        }
      }
      __syncthreads();
    }
  }

  // Calls take(row, column, sum) for each sum of this thread.
  template <typename Take>
  __device__ void ForEach(const Take& take) const {
    const int row = static_cast<int>(threadIdx.x) / 16, column = static_cast<int>(threadIdx.x) % 16;
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int n = 0; n < 4; ++n) take(row + m * 16, column + n * 16, sums[m][n]);
    }
  }

 private:
  template <bool kAlongRows, typename Operand>
  __device__ void Fill(int64_t begin, int64_t inner, const Operand& operand, float* tile) {
#pragma unroll
    for (int item = static_cast<int>(threadIdx.x); item < kSize * kInner; item += kThreads) {
      const int outer = kAlongRows ? item / kInner : item % kSize;
      const int i = kAlongRows ? item % kInner : item / kSize;
      tile[i * kStride + outer] = begin + i < inner ? operand(outer, begin + i) : 0.0f;
    }
  }
};

}  // namespace unipool
