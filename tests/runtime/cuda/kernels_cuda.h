// Test kernels, each for one building block of kernels; they take and return host arrays.
#pragma once

#include <cstdint>
#include <vector>

namespace unipool::testing {

// The bits of bf16 numbers, two per word, the first in the low half.
using Pairs = std::vector<uint32_t>;

// Returns d[16,8] + a[16,16] * b[8,16]^T, computed with ldmatrix and mma from shared memory.
std::vector<float> RunMma(const Pairs& a, const Pairs& b, const std::vector<float>& d);
// Returns true if this GPU and this build support wgmma.
bool CanRunWgmma();
// Returns twice the product of one warpgroup, [64, columns], of a, 64 x 64 or across
// ([inner][outer]), and b, [columns][64] or across. `columns` is 128 or 256.
std::vector<float> RunWgmma(int columns, bool a_across, bool b_across, const Pairs& a,
                            const Pairs& b);
// Returns what each of the 32 lanes receives from 4 (or 2) matrices of 8 x 8, lane after lane.
Pairs RunLoadMatrix(const Pairs& matrices, int num_matrices, bool transposed);
// Copies blocks of 4 words through shared memory with cp.async, two groups in flight; blocks from
// `valid_blocks` on are zeros.
Pairs RunCopyAsync(const Pairs& from, int valid_blocks);
// Returns the sum and the maximum of each block of 128 values.
struct Reduced {
  float sum;
  float max;
};
std::vector<Reduced> RunReduce(const std::vector<float>& values);
// Shuffles the lane numbers of a warp: returns for each lane {xor 5, up 3, down 2, broadcast of
// lane 7}.
std::vector<int> RunShuffles();
// Returns for each thread the number of its neighbor, exchanged through `bytes` of dynamic shared
// memory.
std::vector<int> RunNeighbours(int threads, int bytes);

// Kernels with deliberate errors.
void RunWithHalfABarrier();
void RunPastTheEnd();
void RunWithDifferentCollectives();
void RunUnfencedWgmma();
std::vector<int> RunNeighboursWithoutBarrier(int threads);

// Dereferences a device pointer on the host.
void ReadDeviceMemoryOnTheHost();

}  // namespace unipool::testing
