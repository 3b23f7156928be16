// The memory of one step: a stack of Tensors over one Buffer that is made once. Handing out a
// Tensor moves a pointer, so a warm step allocates nothing.
//
// Discipline: what must live until the backward (a Saved) is allocated before a scope is opened;
// what is allocated inside a scope is gone when the scope closes. Contents are not cleared.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "absl/status/statusor.h"
#include "runtime/buffer.h"
#include "runtime/tensor.h"

namespace unipool {

class Arena {
 public:
  // Reserves address space; pages become real when first touched.
  static absl::StatusOr<Arena> Create(Device device, int64_t reserve_bytes);

  Arena(Arena&&) = default;
  Arena& operator=(Arena&&) = default;

  // Uninitialized, 64-byte aligned. Ends the process, naming sizes, when the reserve is used up.
  Tensor Allocate(DType dtype, std::initializer_list<int64_t> dims);
  template <typename T = float>
  Tensor New(std::initializer_list<int64_t> dims) {
    return Allocate(DTypeOf<T>(), dims);
  }

  int64_t reserved_bytes() const { return buffer_.bytes(); }
  int64_t used_bytes() const { return used_; }
  int64_t peak_bytes() const { return peak_; }
  void ResetPeak() { peak_ = used_; }
  // Frees everything allocated since used_bytes() was `mark`.
  void Release(int64_t mark);

 private:
  explicit Arena(Buffer buffer);

  Buffer buffer_;
  int64_t used_ = 0;
  int64_t peak_ = 0;
};

// Frees at its end what was allocated during its life. Scopes nest.
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
