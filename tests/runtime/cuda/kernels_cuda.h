// Kernels that do one thing each with what kernels are written with, run on host arrays.
#pragma once

#include <cstdint>
#include <vector>

namespace unipool::testing {

// bf16 numbers as their bits, two to a word, low half first.
using Pairs = std::vector<uint32_t>;

// d[16,8] += a[16,16] * b[8,16]^T, by ldmatrix and mma from shared memory.
std::vector<float> RunMma(const Pairs& a, const Pairs& b, const std::vector<float>& d);
// Whether this GPU and this build have wgmma.
bool CanRunWgmma();
// Twice the product of a, 64 x 64 or across ([inner][outer]), and b, [columns][64] or across, of
// one warpgroup: [64, columns]. `columns` is 128 or 256.
std::vector<float> RunWgmma(int columns, bool a_across, bool b_across, const Pairs& a,
                            const Pairs& b);
// What each of 32 lanes gets, one after the other, from 4 (or 2) matrices of 8 x 8.
Pairs RunLoadMatrix(const Pairs& matrices, int num_matrices, bool transposed);
// Blocks of 4 words through shared memory by cp.async with two groups in flight; zeros past
// `valid`.
Pairs RunCopyAsync(const Pairs& from, int valid_blocks);
// For each block of 128 threads: the sum and the maximum of its values.
struct Reduced {
  float sum;
  float max;
};
std::vector<Reduced> RunReduce(const std::vector<float>& values);
// Shuffles of a warp: for each lane {xor 5, up 3, down 2, broadcast of lane 7}, of the lanes'
// numbers.
std::vector<int> RunShuffles();
// A thread's neighbour's number, through dynamic shared memory of `bytes`.
std::vector<int> RunNeighbours(int threads, int bytes);

// Broken on purpose.
void RunWithHalfABarrier();
void RunPastTheEnd();
void RunWithDifferentCollectives();
void RunUnshownWgmma();
std::vector<int> RunNeighboursWithoutBarrier(int threads);

// Host code that takes a pointer of the device for its own.
void ReadDeviceMemoryOnTheHost();

}  // namespace unipool::testing
