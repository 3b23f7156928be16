// A view of memory as a dense row-major array of up to four dimensions. It owns nothing: a Buffer
// or an Arena owns the memory and must outlive every view. Cheap to copy.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/device.h"
#include "runtime/dtype.h"

namespace unipool {

struct Tensor {
  static constexpr int kMaxRank = 4;

  void* data = nullptr;
  int64_t dims[kMaxRank] = {0, 0, 0, 0};
  int rank = 0;
  DType dtype = DType::kFloat32;
  Device device;

  // Returns a view of memory that the caller keeps alive. `dims` counts elements.
  template <typename T>
  static Tensor Of(T* data, std::initializer_list<int64_t> dims, Device device = {}) {
    return View(data, DTypeOf<T>(), dims, device);
  }
  static Tensor View(void* data, DType dtype, std::initializer_list<int64_t> dims, Device device);

  int64_t dim(int i) const { return dims[i]; }
  int64_t numel() const;  // 1 for rank 0 with data, 0 for an empty tensor
  int64_t bytes() const;
  bool empty() const { return numel() == 0; }
  // True for a default Tensor{}, which ops accept for optional fields.
  bool absent() const { return rank == 0 && data == nullptr; }
  bool SameShape(const Tensor& other) const;

  // Typed access; CHECKs that T matches the dtype.
  template <typename T>
  T* as() const {
    CheckType(DTypeOf<T>());
    return static_cast<T*>(data);
  }

  // View of rows [begin, end) of the first dimension.
  Tensor Rows(int64_t begin, int64_t end) const;
  // View with the same address and other dimensions. The caller guarantees that the memory behind
  // it is large enough.
  Tensor From(std::initializer_list<int64_t> new_dims) const {
    return View(data, dtype, new_dims, device);
  }
  // The same elements with other dimensions; the products of the dimensions must be equal (CHECK).
  Tensor Reshape(std::initializer_list<int64_t> new_dims) const;

  std::string ShapeString() const;  // "float32[128, 64]"

 private:
  void CheckType(DType expected) const;
};

}  // namespace unipool
