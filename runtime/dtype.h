// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unipool {

enum class DType : uint8_t { kFloat32, kFloat64, kInt32, kInt64, kBFloat16 };

// The upper 16 bits of a float32. On the CPU this is a storage and transfer format; convert to
// float to compute.
struct BFloat16 {
  uint16_t bits;

  static BFloat16 From(float value);  // rounded to nearest, ties to even; NaN stays NaN
  float ToFloat() const { return __builtin_bit_cast(float, uint32_t{bits} << 16); }
};

size_t SizeOf(DType dtype);
const char* Name(DType dtype);

// DTypeOf<float>() is kFloat32, and so on; other types do not compile.
template <typename T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<float>() {
  return DType::kFloat32;
}
template <>
constexpr DType DTypeOf<double>() {
  return DType::kFloat64;
}
template <>
constexpr DType DTypeOf<int32_t>() {
  return DType::kInt32;
}
template <>
constexpr DType DTypeOf<int64_t>() {
  return DType::kInt64;
}
template <>
constexpr DType DTypeOf<BFloat16>() {
  return DType::kBFloat16;
}

}  // namespace unipool
