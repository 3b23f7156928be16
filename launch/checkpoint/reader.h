// Reads checkpoints into any number of ranks, whatever number wrote them: tensors are found by the
// global names of their parameters, and every byte that is used is hashed on the way. A checkpoint
// that is damaged, or lacks or holds something that it should not, is refused with the file, the
// tensor, what was expected and what was found; what was being filled is then undefined.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/checkpoint.pb.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/world/world.h"
#include "model/parameter.h"

namespace unipool {

// A folder whose manifest is whole.
class Checkpoint {
 public:
  static absl::StatusOr<Checkpoint> Open(const std::string& folder);

  const std::string& folder() const { return folder_; }
  const config::Manifest& manifest() const { return manifest_; }
  int64_t step() const { return manifest_.step(); }
  // The saved config, with the saved constant c of the router: what Transformer::Create needs to
  // make the model that was saved, on any machine.
  config::Run run() const;

  // Every byte of every file. DATA_LOSS names the first bad file and tensor.
  absl::Status Verify() const;
  // A whole weight or moment, put together from its pieces, in its flat order.
  absl::StatusOr<std::vector<float>> ReadFlat(const std::string& parameter,
                                              config::Manifest::Part part) const;
  // Of a weight.
  absl::StatusOr<std::vector<int64_t>> ShapeOf(const std::string& parameter) const;

 private:
  Checkpoint(std::string folder, config::Manifest manifest);

  std::string folder_;
  config::Manifest manifest_;
};

// `path` is a folder of one checkpoint, a folder of checkpoints or its `latest`, or a run folder.
// Where it holds several, the one that `latest` names, or else the newest, is opened; the manifest
// only is read. INVALID_ARGUMENT where there is none.
absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path);

// Fills every weight of `parameters`, which is Allocated. Collective; needs no optimizer.
absl::Status LoadParameters(const Checkpoint& checkpoint, ParameterList& parameters,
                            const World& world);
// Fills weights, moments and statistics. Collective.
absl::Status LoadState(const Checkpoint& checkpoint, const TrainingState& state,
                       const World& world);

}  // namespace unipool
