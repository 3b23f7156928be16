// The paper's test of whether the choice of experts matters
// (model/method.md#routing-randomization): one layer at a time sends its tokens to random experts,
// and the loss and the accuracy that are left are compared with those of the model as it is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/analysis/evaluation_text.h"
#include "launch/analysis/inference_model.h"
#include "launch/analysis/measurement.h"
#include "launch/analysis/routing_hooks.h"

namespace unipool {

struct RandomizeSettings {
  std::vector<int> layers;  // counted from 0, each by itself
  RandomRouteSettings routes;
  // Also draws from each layer's so many most used experts (model/method.md#routing-randomization,
  // "matched"); 0 = never. Not where the pool has no more.
  int matched = 8;
};

// "deep": the upper half, layers floor(L/2) to L-1; "all"; or numbers as in "3,5-7".
absl::StatusOr<std::vector<int>> ParseLayers(const std::string& text, int layers);

struct RandomizedLayer {
  int layer = 0;
  std::vector<int32_t> experts;  // that were drawn from
  Measurement measured;
};

struct RandomizeReport {
  Measurement baseline;
  std::vector<RandomizedLayer> full;     // drawn from all experts of the layer's pool
  std::vector<RandomizedLayer> matched;  // drawn from the most used ones
};

// Means over the layers, each less the baseline's: of losses, and of a task's accuracies.
struct RandomizeMeans {
  double loss = 0;
  struct Task {
    double accuracy = 0;
    double normalized = 0;
    double greedy = 0;
  };
  std::vector<Task> tasks = {};  // as the baseline's
};
RandomizeMeans MeanChange(const Measurement& baseline, const std::vector<RandomizedLayer>& layers);

// `found_on` is where the most used experts are found, apart from what the yardsticks read; null
// where settings.matched is 0. Collective.
absl::StatusOr<RandomizeReport> RunRandomize(const RandomizeSettings& settings,
                                             const EvaluationText* found_on,
                                             const Yardsticks& yardsticks, InferenceModel& model);

}  // namespace unipool
