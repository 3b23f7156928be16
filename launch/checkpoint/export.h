// Exports the weights of a checkpoint for other programs (launch/checkpoint/README.md#export).
#pragma once

#include <string>

#include "absl/status/status.h"
#include "launch/checkpoint/reader.h"
#include "runtime/dtype.h"

namespace unipool {

// Writes all weights to OUTPUT/model.safetensors and the architecture to OUTPUT/config.json;
// creates the folder. `dtype` is kFloat32 or kBFloat16 (rounded to the nearest). Holds one tensor
// in memory at a time. DATA_LOSS if the checkpoint is damaged.
absl::Status ExportCheckpoint(const Checkpoint& checkpoint, DType dtype, const std::string& output);

}  // namespace unipool
