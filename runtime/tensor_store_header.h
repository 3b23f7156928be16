// The JSON header of a safetensors file, to and from text. Only tensor_store.cc includes this.
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

// As in the reference implementation of the format.
constexpr int64_t kMaxHeaderBytes = 100'000'000;

struct TensorHeader {
  std::vector<std::pair<std::string, TensorInfo>> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
};

// "F32" and so on.
absl::string_view FileName(DType dtype);

// The JSON text, padded so that 8 length bytes and it are a multiple of 8 long.
std::string FormatTensorHeader(const std::vector<TensorSpec>& specs,
                               const std::map<std::string, std::string>& metadata);

// `text` begins at byte 8 of a file of `file_bytes`, and the data follow it. DATA_LOSS, naming
// `path`, tensor and byte, unless the tensors fill the data exactly and every field is sound.
absl::StatusOr<TensorHeader> ParseTensorHeader(const std::string& path, absl::string_view text,
                                               int64_t file_bytes);

}  // namespace unipool
