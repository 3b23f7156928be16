// Creates the trainer of a run: new, or restored from the newest good checkpoint of its folder.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/config/messages.h"
#include "launch/train/loaders.h"
#include "launch/train/trainer.h"
#include "launch/world/world.h"

namespace unipool {

// A trainer with the initial weights. Collective: all ranks get an error if one of them has one.
absl::StatusOr<std::unique_ptr<Trainer>> NewTrainer(const config::Run& run, const Corpus& corpus,
                                                    World& world);

// The trainer of `run`, in which `changed` are the fields of --change, restored from the newest
// good checkpoint in run_dir, or new if there is none. A damaged checkpoint is a warning, and the
// next older one is tried. INVALID_ARGUMENT if the data differ from those of the checkpoint, or a
// field of the config that must not change; DATA_LOSS if all checkpoints are damaged. Sets the
// fields of `run` that the checkpoint decides. The other arguments must outlive the trainer.
// Collective.
absl::StatusOr<std::unique_ptr<Trainer>> ResumeTrainer(config::Run* run,
                                                       const std::vector<std::string>& changed,
                                                       const Corpus& corpus, World& world);

// Restores the newest good checkpoint of a step up to `max_step`. DATA_LOSS if there is none.
// Collective.
absl::Status RestoreNewest(Trainer& trainer, const config::Run& run, const World& world,
                           int64_t max_step);

}  // namespace unipool
