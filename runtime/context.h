// What a call carries: where to run, where to take memory from, where to note time. Passed down by
// reference, never global. The pointers are borrowed and outlive every call that takes the Context.
#pragma once

#include <initializer_list>

#include "runtime/arena.h"
#include "runtime/profiler.h"
#include "runtime/progress.h"
#include "runtime/stream.h"

namespace unipool {

struct Context {
  Stream* stream = nullptr;
  Arena* arena = nullptr;
  Profiler* profiler = nullptr;
  Progress* progress = nullptr;  // may stay null
  // Of activations: float32, or bfloat16 on a GPU. What has to be exact (statistics, scores,
  // losses) is float32 in both.
  DType dtype = DType::kFloat32;
  // When set, every op's outputs are checked, and the first that holds a NaN or an infinity is
  // noted.
  struct FiniteCheck* finite_check = nullptr;
};

// Memory for activations, from the arena.
inline Tensor Activations(const Context& ctx, std::initializer_list<int64_t> dims) {
  return ctx.arena->Allocate(ctx.dtype, dims);
}

// Notes where the work is, as in ("forward", layer).
inline void SetProgress(const Context& ctx, const char* what, int layer = Progress::kNoLayer) {
  if (ctx.progress != nullptr) ctx.progress->Set(what, layer);
}

}  // namespace unipool
