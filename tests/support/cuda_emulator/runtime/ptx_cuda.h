// Replaces runtime/ptx_cuda.h in emulated builds: the same functions, computed lane by lane with
// the fragment layouts of the PTX manual.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace unipool {

template <typename T>
T* DynamicShared() {
  return reinterpret_cast<T*>(cuda_emulator::SharedMemory());
}

inline void ExpectAligned(const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes == 0) return;
  cuda_emulator::Stop("an access of %zu bytes at %p: not aligned", bytes, address);
}

void MmaBf16M16N8K16(float* d, const uint32_t* a, const uint32_t* b);
void LoadMatrix4(uint32_t* out, const void* shared_row);
void LoadMatrix4Transposed(uint32_t* out, const void* shared_row);
void LoadMatrix2(uint32_t* out, const void* shared_row);
void LoadMatrix2Transposed(uint32_t* out, const void* shared_row);

inline void CopyAsync16(void* shared, const void* global, bool valid) {
  cuda_emulator::BeginCopy(shared, global, 16, valid);
}
inline void CommitCopies() { cuda_emulator::CloseCopyGroup(); }
template <int kYoungest>
void WaitCopies() {
  cuda_emulator::WaitForCopyGroups(kYoungest);
}

}  // namespace unipool
