// Runs the threads of a block as fibers of one operating-system thread, blocks one after the other.
// Between two barriers the threads run in an order that differs from round to round, so that a
// missing barrier shows as a wrong result. Ends the process with a clear line where threads diverge
// before a barrier, where a block or a warp can never go on, and on what the emulator lacks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_emulator {

inline constexpr int kWarp = 32;
inline constexpr int kMaxThreads = 1024;
inline constexpr size_t kMaxSharedBytes = 228 << 10;  // of a block, on Hopper 227 KiB

struct Size3 {
  unsigned x, y, z;
};

struct Grid {
  Size3 blocks;
  Size3 threads;
  size_t shared_bytes;
};

// Runs call(context) once for every thread of the grid. One grid at a time in the process.
void RunGrid(const Grid& grid, void (*call)(void*), void* context);

// The rest is for threads of a running grid.
unsigned char* SharedMemory();
int Lane();

// All threads of the block.
void MeetBlock();
// The sum of every thread's `value`.
int SumOverBlock(int value);

// Each lane of the warp gives `bytes` (at most kSlotBytes) and may read every lane's until it comes
// to its next exchange: slot i is at the returned address + i * kSlotBytes. `what` must be the same
// for all lanes.
inline constexpr size_t kSlotBytes = 32;
const unsigned char* ExchangeInWarp(const char* what, unsigned mask, const void* bytes,
                                    size_t num_bytes);

// cp.async: the bytes arrive when their group is waited for, and are NaN until then.
void BeginCopy(void* to, const void* from, size_t num_bytes, bool valid);
void CloseCopyGroup();
void WaitForCopyGroups(size_t may_be_unfinished);

// wgmma: `run` computes the running thread's part when the product's group is waited for. All lanes
// of a warp begin it together, with the same operands.
struct Product {
  void (*run)(const Product&);
  int columns;
  bool a_across, b_across, add;
  float* d;
  uint64_t a, b;
};
// Ends the process where a thread has not shown what its cp.async wrote.
void BeginProduct(const Product& product);
void ShowCopies();
void CloseProductGroup();
void WaitForProductGroups(size_t may_be_unfinished);
// The running thread's warp in its warpgroup: 0..3.
int WarpOfGroup();

// Ends the process, naming the running thread.
[[noreturn]] void Stop(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace cuda_emulator

// The running thread's place, and the sizes, under CUDA's names.
extern cuda_emulator::Size3 threadIdx, blockIdx, blockDim, gridDim;
