// What each rank writes of a checkpoint, and the files that it writes. Every weight is one tensor
// of one file; weights are dealt out so that all ranks write about as much. Moments are written
// where they are, so those of replicated parameters come in slices, named by their elements.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/checkpoint.pb.h"
#include "launch/world/world.h"
#include "model/optimizer.h"
#include "model/parameter.h"
#include "runtime/tensor.h"

namespace unipool {

// A tensor to be stored: `value` holds elements [begin, end) of a parameter, or of its moment.
struct Piece {
  const Parameter* parameter;
  config::Manifest::Part part;
  int64_t begin;
  int64_t end;
  Tensor value;

  // "x.weight", "x.weight.exp_avg", "x.weight.exp_avg[0:640]".
  std::string name() const;
};

// Of this rank. The parameters and the optimizer outlive the pieces.
std::vector<Piece> PiecesOf(const ParameterList& parameters, const Optimizer& optimizer,
                            const World& world);

// FOLDER/model-RRRRR.safetensors and optimizer-RRRRR.safetensors, those that hold something,
// brought to the disk. Returns `files` and `tensors` of a manifest.
absl::StatusOr<config::Manifest> WritePieces(const std::string& folder, int rank,
                                             const std::vector<Piece>& pieces);

}  // namespace unipool
