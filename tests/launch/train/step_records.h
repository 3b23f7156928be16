// Step records with made-up numbers.
#pragma once

#include <cstdint>

#include "launch/train/step_record.h"

namespace unipool::testing {

StepRecord Record(int64_t step);
// The same with a validation.
StepRecord Validated(int64_t step);

}  // namespace unipool::testing
