// Conversion of the JSON header of a safetensors file to and from text. Only tensor_store.cc
// includes this file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tensor_store.h"

namespace unipool {

// The limit of the reference implementation of the format.
constexpr int64_t kMaxHeaderBytes = 100'000'000;

struct TensorHeader {
  // in the order of their bytes in the file
  std::vector<std::pair<std::string, TensorInfo>> tensors;
  std::map<std::string, std::string> metadata;
};

// End of the errors for a damaged file: what to do next.
inline constexpr absl::string_view kDamageAdvice =
    "; the file is damaged: restore it from a copy or use another checkpoint";

// Name of a dtype in the file format: "F32" and so on.
absl::string_view FileName(DType dtype);

// Returns the JSON text, padded with spaces so that its length plus the 8 length bytes is a
// multiple of 8.
std::string FormatTensorHeader(const std::vector<TensorSpec>& specs,
                               const std::map<std::string, std::string>& metadata);

// Parses `text`, which begins at byte 8 of a file of `file_bytes` bytes and is followed by the
// data. Returns DATA_LOSS with the path, the tensor and the byte unless every field is valid and
// the tensors fill the data exactly.
absl::StatusOr<TensorHeader> ParseTensorHeader(const std::string& path, absl::string_view text,
                                               int64_t file_bytes);

}  // namespace unipool
