#include "launch/analysis/randomize_probe.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "configs/run.pb.h"
#include "launch/analysis/routing_report.h"
#include "launch/analysis/text_loss.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// The `size` most used experts of the layer, as numbers within its pool.
std::vector<int32_t> MostUsed(const RouteCounts& counts, int layer, int size) {
  std::vector<int32_t> experts;
  for (const int column : TopExperts(counts, layer, size)) {
    experts.push_back(column - counts.first_column(layer));
  }
  return experts;
}

absl::StatusOr<std::vector<RandomizedLayer>> RandomizeEach(const RandomRouteSettings& routes,
                                                           std::vector<RandomizedLayer> layers,
                                                           const Yardsticks& yardsticks,
                                                           InferenceModel& model) {
  for (RandomizedLayer& layer : layers) {
    RandomRoutes hook(routes, layer.layer, layer.experts);
    ASSIGN_OR_RETURN(layer.measured, Measure(yardsticks, &hook, model));
  }
  return layers;
}

absl::StatusOr<RouteCounts> CountRoutes(const EvaluationText& text, InferenceModel& model) {
  RouteCounter counter(model.run());
  RETURN_IF_ERROR(MeasureTextLoss(text, &counter, model).status());
  SumOverRanks(&counter.counts().counts, model);
  return counter.counts();
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseLayers(const std::string& text, int layers) {
  std::vector<int> chosen(layers);
  std::iota(chosen.begin(), chosen.end(), 0);
  if (text == "all") return chosen;
  if (text == "deep") return std::vector<int>(chosen.begin() + layers / 2, chosen.end());
  std::set<int> numbers;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    int first = 0, last = 0;
    const bool good = ends.size() <= 2 && absl::SimpleAtoi(ends[0], &first) &&
                      absl::SimpleAtoi(ends.back(), &last) && 0 <= first && first <= last &&
                      last < layers;
    if (!good) {
      return absl::InvalidArgumentError(absl::StrCat("--layers ", text,
                                                     ": expected deep, all, or layers from 0 to ",
                                                     layers - 1, ", for example 3,5-7"));
    }
    for (int layer = first; layer <= last; ++layer) numbers.insert(layer);
  }
  return std::vector<int>(numbers.begin(), numbers.end());
}

RandomizeMeans MeanChange(const Measurement& baseline, const std::vector<RandomizedLayer>& layers) {
  const double share = 1.0 / static_cast<double>(layers.size());
  RandomizeMeans means;
  means.tasks.resize(baseline.tasks.size());
  for (const RandomizedLayer& layer : layers) {
    if (baseline.text.has_value()) {
      means.loss += share * (layer.measured.text->validation.loss - baseline.text->validation.loss);
    }
    for (size_t i = 0; i < means.tasks.size(); ++i) {
      const TaskReport &now = layer.measured.tasks[i], &before = baseline.tasks[i];
      means.tasks[i].accuracy += share * (now.accuracy.share - before.accuracy.share);
      means.tasks[i].normalized += share * (now.normalized.share - before.normalized.share);
      means.tasks[i].greedy += share * (now.greedy.share - before.greedy.share);
    }
  }
  return means;
}

absl::StatusOr<RandomizeReport> RunRandomize(const RandomizeSettings& settings,
                                             const EvaluationText* selection_text,
                                             const Yardsticks& yardsticks, InferenceModel& model) {
  RandomizeReport report;
  ASSIGN_OR_RETURN(report.baseline, Measure(yardsticks, nullptr, model));
  std::vector<int32_t> all(model.run().pool().experts());
  std::iota(all.begin(), all.end(), 0);
  std::vector<RandomizedLayer> layers;
  for (const int layer : settings.layers) {
    layers.push_back({.layer = layer, .experts = all, .measured = {}});
  }
  ASSIGN_OR_RETURN(report.full, RandomizeEach(settings.routes, layers, yardsticks, model));
  if (settings.matched == 0 || settings.matched >= static_cast<int>(all.size())) return report;
  ASSIGN_OR_RETURN(const RouteCounts counts, CountRoutes(*selection_text, model));
  for (RandomizedLayer& layer : layers) {
    layer.experts = MostUsed(counts, layer.layer, settings.matched);
  }
  ASSIGN_OR_RETURN(report.matched, RandomizeEach(settings.routes, layers, yardsticks, model));
  return report;
}

}  // namespace unipool
