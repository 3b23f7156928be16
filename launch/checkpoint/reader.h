// Reads checkpoints on any number of ranks, whatever number of ranks wrote them: tensors are found
// by the global names of their parameters, and every byte that is used is hashed. A checkpoint that
// is damaged, or that lacks or holds a tensor that it should not, gives DATA_LOSS with the file,
// the tensor and what was found; the contents of what was being filled are then undefined.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/config/messages.h"
#include "launch/world/world.h"
#include "model/parameter.h"

namespace unipool {

// A checkpoint folder whose manifest has been read and checked. Its tensors are read on demand.
class Checkpoint {
 public:
  static absl::StatusOr<Checkpoint> Open(const std::string& folder);
  ~Checkpoint();
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;

  const std::string& folder() const { return folder_; }
  const config::Manifest& manifest() const { return *manifest_; }
  int64_t step() const;
  // The saved config with pool.router_c set to the saved constant, so that Transformer::Create
  // makes the same model on any machine.
  config::Run run() const;

  // Hashes every byte of every file. DATA_LOSS names the first damaged file and tensor.
  absl::Status Verify() const;
  // A whole weight or moment, flattened, joined from its pieces. NOT_FOUND if there is none.
  absl::StatusOr<std::vector<float>> ReadFlat(const std::string& parameter,
                                              config::Manifest_Part part) const;
  // The shape of a weight. NOT_FOUND if there is none.
  absl::StatusOr<std::vector<int64_t>> ShapeOf(const std::string& parameter) const;

 private:
  Checkpoint(std::string folder, const config::Manifest& manifest);

  std::string folder_;
  std::unique_ptr<config::Manifest> manifest_;
};

// The folders of the checkpoints at `path`: a checkpoint folder, a folder of checkpoints or its
// `latest`, or a run folder. If there are several, the one in `latest`, else the newest, is first,
// and those follow that a search for a good one should try. INVALID_ARGUMENT if there is none.
absl::StatusOr<std::vector<std::string>> CheckpointsToTry(const std::string& path);
// Opens the first of these. Reads the manifest only.
absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path);

// Fills every weight of `parameters`, whose memory must be allocated. Collective.
absl::Status LoadParameters(const Checkpoint& checkpoint, ParameterList& parameters,
                            const World& world);
// Fills weights, moments and statistics of `state`. Collective.
absl::Status LoadState(const Checkpoint& checkpoint, const TrainingState& state,
                       const World& world);

}  // namespace unipool
