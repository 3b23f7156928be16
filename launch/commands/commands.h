// The sub-commands of `unipool`. Each takes the arguments after its name and returns the exit code.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace unipool {

int TrainCommand(const std::vector<std::string>& args);       // unipool train
int ConfigCommand(const std::vector<std::string>& args);      // unipool config show
int BenchCommand(const std::vector<std::string>& args);       // unipool bench step|checkpoint
int CheckpointCommand(const std::vector<std::string>& args);  // inspect|verify|diff|export
int EvaluateCommand(const std::vector<std::string>& args);    // unipool evaluate
int ScoreCommand(const std::vector<std::string>& args);       // unipool score
int ProbeCommand(const std::vector<std::string>& args);       // unipool probe randomize|reuse|...
int DataCommand(const std::vector<std::string>& args);        // unipool data prepare|inspect|bigram

// Prints the one line of an error on standard error, unless another rank has to, and gives the exit
// code that belongs to it.
int Report(const absl::Status& status);

}  // namespace unipool
