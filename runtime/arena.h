// Memory of one training step: a stack allocator over one Buffer that is allocated once. Allocating
// a Tensor moves a pointer, so a step after the first allocates no memory from the system.
//
// Order of use: allocate what the backward needs (a Saved) before opening an ArenaScope. Everything
// allocated inside a scope is freed when the scope closes. Memory is not cleared.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "absl/status/statusor.h"
#include "runtime/buffer.h"
#include "runtime/tensor.h"

namespace unipool {

class Arena {
 public:
  // Reserves address space; on the CPU, physical pages are committed when first touched. Returns
  // RESOURCE_EXHAUSTED if the system refuses.
  static absl::StatusOr<Arena> Create(Device device, int64_t reserve_bytes);

  Arena(Arena&&) = default;
  Arena& operator=(Arena&&) = default;

  // Returns uninitialized, 64-byte aligned memory, valid until it is released. Aborts with the
  // sizes in the message if the reserve is exhausted.
  Tensor Allocate(DType dtype, std::initializer_list<int64_t> dims);
  template <typename T = float>
  Tensor New(std::initializer_list<int64_t> dims) {
    return Allocate(DTypeOf<T>(), dims);
  }

  int64_t reserved_bytes() const { return buffer_.bytes(); }
  int64_t used_bytes() const { return used_; }
  int64_t peak_bytes() const { return peak_; }  // maximum of used_bytes() so far

  // Frees everything allocated after used_bytes() returned `mark`.
  void Release(int64_t mark);

 private:
  explicit Arena(Buffer buffer);

  Buffer buffer_;
  int64_t used_ = 0;
  int64_t peak_ = 0;
};

// Frees at destruction everything allocated during its lifetime. Scopes may nest.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.used_bytes()) {}
  ~ArenaScope() { arena_.Release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  const int64_t mark_;
};

}  // namespace unipool
