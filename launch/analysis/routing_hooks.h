// Hooks for analyses: counting routes, counting each token's distinct experts, and sending a
// layer's tokens to random experts. Routing that is on a GPU they read, and write, through copies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/analysis/inference_model.h"
#include "launch/analysis/routing_report.h"
#include "runtime/rng.h"

namespace unipool {

namespace config {
class Run;
}

// n[layer, expert] of this rank's tokens.
class RouteCounter : public BatchHook {
 public:
  explicit RouteCounter(const config::Run& run);  // of an MoE
  void OnBatch(const TokenBatch&) override {}
  void OnRouting(Context& ctx, int layer, const Router::Saved& routing) override;
  RouteCounts& counts() { return counts_; }

 private:
  RouteCounts counts_;
  std::vector<int32_t> ids_;  // copies from a GPU, as in the others
};

// How many of this rank's tokens meet u distinct experts over all layers, for each u.
class DistinctCounter : public BatchHook {
 public:
  explicit DistinctCounter(const config::Run& run);
  void OnBatch(const TokenBatch& batch) override;
  void OnRouting(Context& ctx, int layer, const Router::Saved& routing) override;
  std::vector<int64_t>& histogram() { return histogram_; }  // [layers * top_k + 1]

 private:
  RouteCounts shape_;
  std::vector<int32_t> columns_;  // [tokens, layers * top_k] of the batch
  std::vector<int64_t> histogram_;
  std::vector<int32_t> ids_;
};

// Replaces one layer's choice by experts drawn uniformly and without repetition from `columns`.
// What a token draws depends on nothing but the seed, the layer, its sequence and its position.
struct RandomRouteSettings {
  enum class Gate : uint8_t {
    kOriginal,  // the j-th random expert gets the gate of the j-th expert that the router chose
    kOwn,       // its own score, which may be 0
    kOne,       // 1
  };
  enum class Draw : uint8_t { kToken, kSequence };  // a draw for each token, or one a sequence

  Gate gate = Gate::kOriginal;
  Draw draw = Draw::kToken;
  uint64_t seed = 0;
};
absl::StatusOr<RandomRouteSettings::Gate> ParseGate(const std::string& name);
absl::StatusOr<RandomRouteSettings::Draw> ParseDraw(const std::string& name);
const char* GateName(RandomRouteSettings::Gate gate);
const char* DrawName(RandomRouteSettings::Draw draw);

class RandomRoutes : public BatchHook {
 public:
  // `experts` of the layer's pool, at least top_k.
  RandomRoutes(const RandomRouteSettings& settings, int layer, std::vector<int32_t> experts);
  void OnBatch(const TokenBatch& batch) override;
  void OnRouting(Context& ctx, int layer, const Router::Saved& routing) override;

 private:
  void DrawExperts(uint64_t position, int64_t top_k);

  const RandomRouteSettings settings_;
  const int layer_;
  const std::vector<int32_t> experts_;
  const Rng rng_;
  std::vector<int64_t> sequence_ids_;  // of the batch
  int64_t sequence_ = 0;
  std::vector<int32_t> left_;  // experts that a token can still draw
  std::vector<int32_t> drawn_;
  std::vector<int32_t> ids_;
  std::vector<float> gates_;
  std::vector<float> scores_;
};

}  // namespace unipool
