// Decides which tensors of a checkpoint each rank writes, and writes them. A weight is one tensor
// of one file; weights are distributed so that all ranks write about the same number of bytes. A
// moment is written by the rank that owns it, so the moments of replicated parameters are split
// into slices that are named by their elements.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/config/messages.h"
#include "launch/world/world.h"
#include "model/optimizer.h"
#include "model/parameter.h"
#include "runtime/tensor.h"

namespace unipool {

// One tensor of a checkpoint file. `value` holds elements [begin, end) of a parameter, or of one of
// its moments; it is borrowed.
struct Piece {
  const Parameter* parameter;
  config::Manifest_Part part;
  int64_t begin;
  int64_t end;
  Tensor value;

  // "x.weight", "x.weight.exp_avg", "x.weight.exp_avg[0:640]".
  std::string name() const;
};

// The pieces that this rank writes. The parameters and the optimizer must outlive them.
std::vector<Piece> PiecesOf(const ParameterList& parameters, const Optimizer& optimizer,
                            const World& world);

// Writes FOLDER/model-RRRRR.safetensors and FOLDER/optimizer-RRRRR.safetensors and syncs them to
// disk; a file without tensors is not written. Returns a manifest with only `files` and `tensors`.
absl::StatusOr<config::Manifest> WritePieces(const std::string& folder, int rank,
                                             const std::vector<Piece>& pieces);

}  // namespace unipool
