// The record of one training step, which a run writes to metrics.jsonl and prints on the terminal.
// The comments of StepRecord define the fields of the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "comm/load_statistics.h"
#include "launch/analysis/validation.h"
#include "launch/checkpoint/checkpoint.h"
#include "model/losses.h"

namespace unipool {

struct StepRecord {
  int64_t step = 0;    // counted from 1; 0 for the validation before training, which stands alone
  int64_t tokens = 0;  // trained on so far, all ranks
  double lm_loss = 0;  // cross-entropy, nats per token
  double pool_loss = 0;
  double layer_aux_loss = 0;
  double grad_norm = 0;  // before clipping
  double lr = 0;
  double step_seconds = 0;
  double tokens_per_second = 0;
  double exposed_comm_seconds = 0;  // exchange time hidden by no computation, of the slowest rank
  double layer_imbalance = 0;       // comm/load_statistics.h
  double pool_imbalance = 0;
  double unrouted_share = 0;            // share of (token, layer) pairs without a positive score
  int64_t skipped_updates = 0;          // so far
  int64_t rewinds = 0;                  // so far
  double checkpoint_stall_seconds = 0;  // time that saving paused training, since the last record
  double checkpoint_gigabytes_per_second = 0;  // of the newest save, all ranks; 0 before the first
  std::optional<Validation> validation;
  // False if the record holds only a validation: the one before training, or one that an earlier
  // run of the job did not finish.
  bool has_training = true;
  std::optional<Validation> test;  // after the last step, if eval.test is set
};

// What the computation of a step yields; the same on all ranks.
struct StepResult {
  int64_t step = 0;             // counted from 1
  int64_t tokens_per_step = 0;  // all ranks
  int num_layers = 0;
  LossSums::Values losses;
  double grad_norm = 0;
  double lr = 0;
  double exposed_comm_seconds = 0;

  double loss() const;  // the sum that is minimized
};

// The record of a finished step. It has no times, costs of saves and evaluations: the caller adds
// them.
StepRecord MakeStepRecord(const StepResult& result, const LoadStatistics& statistics,
                          const DivergenceState& divergence);

// One line of JSON without its line end. Numbers that are not finite are null.
std::string ToJson(const StepRecord& record);
// The part of ToJson that holds validation and test: `, "validation_loss": 2, ...`. Empty without
// them.
std::string EvaluationFields(const StepRecord& record);

// What ToJson begins with; the number of the step follows.
inline constexpr char kStepField[] = "{\"step\": ";

}  // namespace unipool
