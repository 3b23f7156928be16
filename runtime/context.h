// What a call carries: where to run, where to take memory from, where to note time. Passed down by
// reference, never global. The pointers are borrowed and outlive every call that takes the Context.
#pragma once

#include "runtime/arena.h"
#include "runtime/profiler.h"
#include "runtime/stream.h"

namespace unipool {

struct Context {
  Stream* stream = nullptr;
  Arena* arena = nullptr;
  Profiler* profiler = nullptr;
  // When set, every op's outputs are checked, and the first that holds a NaN or an infinity is
  // noted.
  struct FiniteCheck* finite_check = nullptr;
};

}  // namespace unipool
