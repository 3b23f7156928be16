// A whole run, from its config to the end of training: opens the run folder, creates or resumes the
// trainer, writes the records and the checkpoints, rewinds, and stops on signals or near a time
// limit.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "launch/config/messages.h"
#include "launch/train/run_outputs.h"
#include "launch/world/world.h"

namespace unipool {

// What the user requests besides the config.
struct TrainingRequest {
  StartMode start = StartMode::kResume;
  // Fields of the config that differ from those of the checkpoint on purpose (--change).
  std::vector<std::string> changed_fields = {};
  // The constant of the router is an estimate for too few experts: print a warning.
  bool has_noisy_constant = false;
  int64_t stop_after = std::numeric_limits<int64_t>::max();  // stop after this step
  absl::Time end = absl::InfiniteFuture();                   // of the time limit
};

// Trains `run`, which is resolved and checked. CANCELLED if the run stopped on a signal or near the
// time limit: it is saved, and the same request resumes it. OUT_OF_RANGE if it diverged.
// Collective.
absl::Status TrainRun(config::Run run, const TrainingRequest& request, World& world);

}  // namespace unipool
