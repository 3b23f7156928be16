// Measures how much the choice of experts matters (model/method.md#routing-randomization): one
// layer at a time sends its tokens to random experts, and loss and accuracy are compared with those
// of the unchanged model.
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
  std::vector<int> layers;  // counted from 0; randomized one at a time
  RandomRouteSettings routes;
  // Also draws from the `matched` most used experts of each layer
  // (model/method.md#routing-randomization, "matched"); 0 = do not. Skipped if the pool has no more
  // than `matched` experts.
  int matched = 8;
};

// Parses the value of --layers for a model of `layers` layers: "deep" (the upper half, floor(layers
// / 2) to layers - 1), "all", or numbers and ranges as in "3,5-7".
absl::StatusOr<std::vector<int>> ParseLayers(const std::string& text, int layers);

struct RandomizedLayer {
  int layer = 0;
  std::vector<int32_t> experts;  // the set that experts were drawn from
  Measurement measured;
};

struct RandomizeReport {
  Measurement baseline;
  std::vector<RandomizedLayer> full;     // drawn from all experts of the layer's pool
  std::vector<RandomizedLayer> matched;  // drawn from the most used ones
};

// Means over the layers of the differences from the baseline, of the loss and of each task's
// accuracies.
struct RandomizeMeans {
  double loss = 0;
  struct Task {
    double accuracy = 0;
    double normalized = 0;
    double greedy = 0;
  };
  std::vector<Task> tasks = {};  // in the order of the baseline's
};
RandomizeMeans MeanChange(const Measurement& baseline, const std::vector<RandomizedLayer>& layers);

// `selection_text`, on which the most used experts are counted, should not overlap the text of the
// yardsticks; it may be null if settings.matched is 0. Collective.
absl::StatusOr<RandomizeReport> RunRandomize(const RandomizeSettings& settings,
                                             const EvaluationText* selection_text,
                                             const Yardsticks& yardsticks, InferenceModel& model);

}  // namespace unipool
