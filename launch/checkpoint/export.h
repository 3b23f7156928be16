// A checkpoint's weights for other programs: all in one safetensors file under their names, beside
// a config.json that says what model they are. launch/checkpoint/README.md#export.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "launch/checkpoint/reader.h"
#include "runtime/dtype.h"

namespace unipool {

// OUTPUT/model.safetensors and OUTPUT/config.json; `dtype` is kFloat32 or kBFloat16 (rounded to the
// nearest). Holds one tensor in memory at a time.
absl::Status ExportCheckpoint(const Checkpoint& checkpoint, DType dtype, const std::string& output);

}  // namespace unipool
