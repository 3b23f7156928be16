// PTX instructions that CUDA C++ has no function for: tensor-core products, ldmatrix, cp.async,
// dynamic shared memory. Kernels that use them need sm_80 or later. Builds that emulate the GPU
// include tests/support/cuda_emulator/runtime/ptx_cuda.h instead of this file; both declare the
// same functions.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace unipool {

// The block's dynamic shared memory, aligned to 1024 bytes as wgmma requires. Every call returns
// the same address.
template <typename T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory);
}

// On a GPU an access that is not aligned to its size faults in hardware; the emulator checks it
// here.
__device__ __forceinline__ void ExpectAligned(const void* /*address*/, size_t /*bytes*/) {}

// One tensor-core product of a warp, d += a * b, bf16 inputs and float32 sums: d is 16 x 8, a is 16
// x 16 row-major, b is 16 x 8 column-major (n rows of k). With g = lane / 4 and t = lane % 4 * 2,
// the element with the lower index in the low half of a register:
//   a[0] = A[g][t..t+1], a[1] = A[g+8][t..], a[2] = A[g][t+8..], a[3] = A[g+8][t+8..]
//   b[0] = B[t..t+1][g], b[1] = B[t+8..][g];  d = {D[g][t], D[g][t+1], D[g+8][t], D[g+8][t+1]}
__device__ __forceinline__ void MmaBf16M16N8K16(float* d, const uint32_t* a, const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Loads four 8 x 8 matrices of 16-bit values from shared memory. Lane 8 i + r passes the address of
// row r of matrix i (16 bytes, aligned to 16). Every lane receives in out[i] the elements [lane /
// 4][lane % 4 * 2 .. + 1] of matrix i, or of its transpose.
__device__ __forceinline__ void LoadMatrix4(uint32_t* out, const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(SharedAddress(shared_row))
               : "memory");
}
__device__ __forceinline__ void LoadMatrix4Transposed(uint32_t* out, const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(SharedAddress(shared_row))
               : "memory");
}
// The same for two matrices; only the addresses of lanes 0..15 are used.
__device__ __forceinline__ void LoadMatrix2(uint32_t* out, const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(SharedAddress(shared_row))
               : "memory");
}
__device__ __forceinline__ void LoadMatrix2Transposed(uint32_t* out, const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(SharedAddress(shared_row))
               : "memory");
}

// Starts an asynchronous copy of 16 bytes from global to shared memory, or writes 16 zero bytes if
// not `valid`. Both addresses are aligned to 16; `global` must point into an allocation even if not
// `valid`. The bytes are visible to this thread after CommitCopies and WaitCopies, and to other
// threads after a barrier that follows.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n"
               :
               : "r"(SharedAddress(shared)), "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
// Closes the group of copies that this thread has started since the last call.
__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Waits until at most the `kYoungest` most recent groups of this thread are unfinished.
template <int kYoungest>
__device__ __forceinline__ void WaitCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kYoungest) : "memory");
}

}  // namespace unipool
