// Runs the threads of a block as fibers of one operating-system thread, and the blocks one after
// the other. Between two barriers the threads run in an order that differs from round to round, so
// a missing barrier shows as a wrong result. Aborts with a one-line error if threads diverge before
// a barrier, if a block or warp deadlocks, or if a kernel uses something that is not emulated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_emulator {

inline constexpr int kWarp = 32;
inline constexpr int kMaxThreads = 1024;
inline constexpr size_t kMaxSharedBytes = 228 << 10;  // per block; 227 KiB on Hopper

struct Size3 {
  unsigned x, y, z;
};

struct Grid {
  Size3 blocks;
  Size3 threads;
  size_t shared_bytes;
};

// Runs call(context) once for every thread of the grid. One grid at a time per process.
void RunGrid(const Grid& grid, void (*call)(void*), void* context);

// The functions below are called by threads of a running grid.
unsigned char* SharedMemory();
int Lane();

// Barrier of the block.
void MeetBlock();
// Barrier of the block that returns the sum of every thread's `value`.
int SumOverBlock(int value);

// Each lane of the warp passes `bytes` (at most kSlotBytes) and may read those of every lane until
// its next exchange: slot i is at the returned address + i * kSlotBytes. `what` must be the same
// for all lanes.
inline constexpr size_t kSlotBytes = 32;
const unsigned char* ExchangeInWarp(const char* what, unsigned mask, const void* bytes,
                                    size_t num_bytes);

// cp.async: the bytes are written when their group is waited for, and are NaN until then.
void BeginCopy(void* to, const void* from, size_t num_bytes, bool valid);
void CloseCopyGroup();
void WaitForCopyGroups(size_t may_be_unfinished);

// wgmma: `run` computes the running thread's part when the group of the product is waited for. All
// lanes of a warp issue it together, with the same operands.
struct Product {
  void (*run)(const Product&);
  int columns;
  bool a_across, b_across, add;
  float* d;
  uint64_t a, b;
};
// Aborts if a thread has not called FenceCopies after its cp.async completed.
void BeginProduct(const Product& product);
void FenceCopies();
void CloseProductGroup();
void WaitForProductGroups(size_t may_be_unfinished);
// Index of the running thread's warp in its warpgroup: 0..3.
int WarpOfGroup();

// Aborts with a message that names the running thread.
[[noreturn]] void Stop(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace cuda_emulator

// Indices of the running thread and sizes of the grid, with CUDA's names.
extern cuda_emulator::Size3 threadIdx, blockIdx, blockDim, gridDim;
