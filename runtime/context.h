// The environment of a call: the stream to run on, the arena to allocate from, the profiler.
// Passed down by reference, never global. The pointers are borrowed; their objects outlive every
// call that takes the Context.
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
  Progress* progress = nullptr;  // optional
  // The type of activations: float32, or bfloat16 on a GPU. Scores, losses and statistics are never
  // bfloat16.
  DType dtype = DType::kFloat32;
  // Optional: if set, the outputs of every op are checked, and the first output that holds a NaN or
  // an infinity is recorded here.
  struct FiniteCheck* finite_check = nullptr;
};

// Allocates activations from the arena.
inline Tensor Activations(const Context& ctx, std::initializer_list<int64_t> dims) {
  return ctx.arena->Allocate(ctx.dtype, dims);
}

// Sets the progress of this rank, for example ("forward", layer), for the watchdog's reports.
inline void SetProgress(const Context& ctx, const char* what, int layer = Progress::kNoLayer) {
  if (ctx.progress != nullptr) ctx.progress->Set(what, layer);
}

}  // namespace unipool
