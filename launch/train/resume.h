// How a run begins: anew, or from the newest good checkpoint of its folder.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/run.pb.h"
#include "launch/train/loaders.h"
#include "launch/train/trainer.h"
#include "launch/world/world.h"

namespace unipool {

// A trainer that begins anew. Collective, and so is its error.
absl::StatusOr<std::unique_ptr<Trainer>> NewTrainer(const config::Run& run, const Corpus& corpus,
                                                    World& world);

// The trainer of `run`, restored from the newest good checkpoint below run_dir where there is one;
// damaged ones are told of and passed over. INVALID_ARGUMENT where the data changed, or the config
// in a field that is not free to change; DATA_LOSS where there are checkpoints but no good one.
// Adopts into `run` what the checkpoint decides. The other arguments outlive the trainer.
// Collective.
absl::StatusOr<std::unique_ptr<Trainer>> ResumeTrainer(config::Run* run, const Corpus& corpus,
                                                       World& world);

// Goes back to the newest good checkpoint of a step up to `max_step`. DATA_LOSS where there is
// none. Collective.
absl::Status RestoreNewest(Trainer& trainer, const config::Run& run, const World& world,
                           int64_t max_step);

}  // namespace unipool
