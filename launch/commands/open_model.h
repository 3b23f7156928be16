// What the commands that look at a trained model share: their flags, and how the model is opened.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/analysis/evaluation_text.h"
#include "launch/analysis/inference_model.h"
#include "launch/commands/command_line.h"

namespace unipool {

// `flags` between those of the model and --help.
std::vector<Flag> WithModelFlags(std::vector<Flag> flags);
// --split, --first and --sequences: which text.
std::vector<Flag> TextFlags();

// Where a model came from.
struct ModelOrigin {
  std::string checkpoint;  // its folder
  int64_t step = 0;
};

// Opens what --checkpoint, --config and --set name on all ranks, calls `look` and gives the exit
// code. Weights, shapes and routing are the checkpoint's; data and ranks are those of --config
// where it is given, else also the checkpoint's; --set overrides either.
using LookAtModel = std::function<absl::Status(const ModelOrigin&, InferenceModel&)>;
int OpenModel(const CommandLine& line, const LookAtModel& look);

// On all ranks; warns where there are fewer sequences than wanted.
absl::StatusOr<std::unique_ptr<EvaluationText>> OpenText(const TextPart& wanted,
                                                         InferenceModel& model);

absl::StatusOr<TextPart> ParseTextPart(const CommandLine& line, const config::Run& run);

}  // namespace unipool
