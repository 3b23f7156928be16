// Flags and opening of the model for the commands that examine a trained model.
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

// The flags that choose the model, then `flags`, then --help.
std::vector<Flag> WithModelFlags(std::vector<Flag> flags);
// --split, --first and --sequences, which choose the text.
std::vector<Flag> TextFlags();

// The checkpoint that a model was loaded from.
struct ModelOrigin {
  std::string checkpoint;  // folder
  int64_t step = 0;
};

// Loads the model of --checkpoint on all ranks, calls `use_model` and returns the exit code of its
// status. Weights, shapes and routing come from the checkpoint; data, eval and parallel come from
// --config if it is given, else from the checkpoint too; --set overrides either.
using UseModel = std::function<absl::Status(const ModelOrigin&, InferenceModel&)>;
int OpenModel(const CommandLine& line, const UseModel& use_model);

// Opens the text on all ranks; warns if the part has fewer sequences than wanted. Collective.
absl::StatusOr<std::unique_ptr<EvaluationText>> OpenText(const TextPart& wanted,
                                                         InferenceModel& model);

absl::StatusOr<TextPart> ParseTextPart(const CommandLine& line, const config::Run& run);

}  // namespace unipool
