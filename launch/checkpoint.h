// Writes a run's state so that it is whole or not there: every rank writes its own tensors into a
// folder beside the final name, the manifest comes last, then the folder is renamed and `latest`
// points to it. Layout: design in launch/README.md.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/world.h"
#include "model/parameter.h"

namespace unipool {

// Writes CHECKPOINTS/step_XXXXXXXX with model-RRRRR.safetensors of each rank that holds something
// of its own (rank 0: all replicated parameters and its experts; the others of the first replica:
// their experts) and manifest.textproto. Returns the folder. Collective; on an error of any rank
// nothing is left under the final name, and all ranks get an error (World::Agree).
absl::StatusOr<std::string> SaveWeights(const std::string& checkpoints, const config::Run& run,
                                        int64_t step, const ParameterList& parameters,
                                        const World& world);

}  // namespace unipool
