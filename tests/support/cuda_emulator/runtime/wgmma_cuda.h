// Replaces runtime/wgmma_cuda.h in emulated builds: the same functions, which decode matrix
// descriptors as the PTX manual defines them. A product runs when its group is waited for, the
// latest time that a GPU allows.
#pragma once

#include <cstdint>

#include "runtime/ptx_cuda.h"

namespace unipool {

inline constexpr bool kHasWgmma = true;

uint64_t WgmmaOperand(const void* first, int panel_bytes);
inline void FenceSharedForWgmma() { cuda_emulator::FenceCopies(); }
inline void BeginWgmma() {}
inline void CommitWgmma() { cuda_emulator::CloseProductGroup(); }
template <int kYoungest>
void WaitWgmma() {
  cuda_emulator::WaitForProductGroups(kYoungest);
}

inline void PinWgmmaSum(float&) {}

// `columns` is a multiple of 8.
void BeginProduct(int columns, bool a_across, bool b_across, float* d, uint64_t a, uint64_t b,
                  bool add);
template <bool kAAcross, bool kBAcross>
void WgmmaN128(float* d, uint64_t a, uint64_t b, bool add) {
  BeginProduct(128, kAAcross, kBAcross, d, a, b, add);
}
template <bool kAAcross, bool kBAcross>
void WgmmaN256(float* d, uint64_t a, uint64_t b, bool add) {
  BeginProduct(256, kAAcross, kBAcross, d, a, b, add);
}

}  // namespace unipool
