// Hopper's warpgroup tensor-core products (wgmma): a warpgroup (four consecutive warps, the first
// with an index divisible by four) multiplies tiles in shared memory asynchronously. The
// instructions compile only for sm_90a; for other architectures kHasWgmma is false and the
// functions must not be called. Builds that emulate the GPU include
// tests/support/cuda_emulator/runtime/wgmma_cuda.h instead of this file; both declare the same
// functions. Source: PTX ISA 8.0 and later, "Asynchronous warpgroup level matrix instructions".
//
// An operand is stored in panels with 64 elements (128 bytes) a row and consecutive rows. The
// 16-byte chunk c of row r is stored at chunk position c ^ (r % 8) ("128-byte swizzle"). Panels
// begin at multiples of 1024 bytes.
#pragma once

#include <cuda_runtime.h>
#include <nv/target>

#include <cstdint>

#include "runtime/ptx_cuda.h"

namespace unipool {

// True when compiling for sm_90a.
__host__ __device__ constexpr bool IsForSm90a() {
  NV_IF_ELSE_TARGET(NV_HAS_FEATURE_SM_90a, (return true;), (return false;))
}
inline constexpr bool kHasWgmma = IsForSm90a();

// Returns the matrix descriptor of 16 inner elements of an operand. If the inner dimension runs
// along the rows ([outer][inner], one panel), `first` is the first outer row at the panel's first,
// third, fifth or seventh chunk. If it runs across them ([inner][outer]), `first` is the first
// inner row in the first panel, and panels are `panel_bytes` apart.
__device__ __forceinline__ uint64_t WgmmaOperand(const void* first, int panel_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightRows = uint64_t{1024 >> 4} << 32;
  const uint64_t address = (SharedAddress(first) & 0x3ffff) >> 4;
  return kSwizzle128 | kEightRows | static_cast<uint64_t>(panel_bytes >> 4) << 16 | address;
}

// Makes data that cp.async or stores wrote to shared memory visible to wgmma. Each writing thread
// calls it before a barrier, and the barrier precedes the first product that reads the data.
__device__ __forceinline__ void FenceSharedForWgmma() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
// Called before the first product of a group: makes register writes by other instructions visible.
__device__ __forceinline__ void BeginWgmma() {
  if constexpr (kHasWgmma) asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
// Closes the group of products since the last call.
__device__ __forceinline__ void CommitWgmma() {
  if constexpr (kHasWgmma) asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
// Waits until at most the `kYoungest` most recent groups of this warpgroup are unfinished.
template <int kYoungest>
__device__ __forceinline__ void WaitWgmma() {
  if constexpr (kHasWgmma) {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kYoungest) : "memory");
  }
}

// Must be called for each sum between the wait for its products and its first use. The compiler
// treats a sum as complete when its product is issued and could otherwise move the use before the
// wait.
__device__ __forceinline__ void PinWgmmaSum(float& sum) { asm volatile("" : "+f"(sum)::"memory"); }

// d = a * b, or d += a * b if `add`: 64 rows, n columns, 16 inner elements, bf16 inputs, float32
// sums. kAAcross, kBAcross: the inner dimension of the operand runs across the rows. Warp w of the
// group holds rows 16 w .. 16 w + 15; its 8 columns j have the layout of mma m16n8 in d[4 j .. 4 j
// + 3].
#define UNIPOOL_SUMS_4(d, i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define UNIPOOL_SUMS_16(d, i)                                                   \
  UNIPOOL_SUMS_4(d, i), UNIPOOL_SUMS_4(d, (i) + 4), UNIPOOL_SUMS_4(d, (i) + 8), \
      UNIPOOL_SUMS_4(d, (i) + 12)
#define UNIPOOL_SUMS_32(d, i) UNIPOOL_SUMS_16(d, i), UNIPOOL_SUMS_16(d, (i) + 16)
template <bool kAAcross, bool kBAcross>
__device__ __forceinline__ void WgmmaN128(float* d, uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, p, 1, 1, %67, %68;\n}\n"
      : UNIPOOL_SUMS_32(d, 0), UNIPOOL_SUMS_32(d, 32)
      : "l"(a), "l"(b), "r"(add ? 1 : 0), "n"(kAAcross ? 1 : 0), "n"(kBAcross ? 1 : 0)
      : "memory");
}
template <bool kAAcross, bool kBAcross>
__device__ __forceinline__ void WgmmaN256(float* d, uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "
      "%127}, "
      "%128, %129, p, 1, 1, %131, %132;\n}\n"
      : UNIPOOL_SUMS_32(d, 0), UNIPOOL_SUMS_32(d, 32), UNIPOOL_SUMS_32(d, 64),
        UNIPOOL_SUMS_32(d, 96)
      : "l"(a), "l"(b), "r"(add ? 1 : 0), "n"(kAAcross ? 1 : 0), "n"(kBAcross ? 1 : 0)
      : "memory");
}
#undef UNIPOOL_SUMS_32
#undef UNIPOOL_SUMS_16
#undef UNIPOOL_SUMS_4

}  // namespace unipool
