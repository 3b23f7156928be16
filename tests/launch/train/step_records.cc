#include "tests/launch/train/step_records.h"

namespace unipool::testing {

StepRecord Record(int64_t step) {
  return {.step = step,
          .tokens = step * 4096,
          .lm_loss = 1.0 / 3,
          .pool_loss = 1e-300,
          .layer_aux_loss = 0.1,
          .grad_norm = 12345678.9,
          .lr = 5e-4,
          .step_seconds = 2,
          .tokens_per_second = 2048,
          .exposed_comm_seconds = 0.25,
          .layer_imbalance = 0,
          .pool_imbalance = 0,
          .unrouted_share = 0,
          .skipped_updates = 2,
          .rewinds = 1,
          .validation = {},
          .test = {}};
}

StepRecord Validated(int64_t step) {
  StepRecord record = Record(step);
  record.validation = Validation{.loss = 2, .bits_per_byte = 1.5};
  return record;
}

}  // namespace unipool::testing
