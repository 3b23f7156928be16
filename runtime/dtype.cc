#include "runtime/dtype.h"

#include <glog/logging.h>

namespace unipool {

BFloat16 BFloat16::From(float value) {
  const auto word = __builtin_bit_cast(uint32_t, value);
  if (value != value) return {static_cast<uint16_t>(word >> 16 | 0x40)};
  return {static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16)};
}

size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return 2;
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat64:
    case DType::kInt64:
      return 8;
  }
  LOG(FATAL) << "unknown dtype " << static_cast<int>(dtype);
}

const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kBFloat16:
      return "bfloat16";
  }
  return "unknown";
}

}  // namespace unipool
