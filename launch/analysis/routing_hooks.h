// Hooks for analyses: count routes, count the distinct experts of each token, and send the tokens
// of a layer to random experts. Routing tensors on a GPU are read and written through host copies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/analysis/inference_model.h"
#include "launch/analysis/routing_report.h"
#include "launch/config/messages.h"
#include "runtime/rng.h"

namespace unipool {

// Counts the routes n[layer, expert] of this rank's tokens.
class RouteCounter : public BatchHook {
 public:
  // `run` must be a mixture of experts (CHECK).
  explicit RouteCounter(const config::Run& run);
  void OnBatch(const TokenBatch&) override {}
  void OnRouting(Context& ctx, int layer, const Router::Saved& routing) override;
  RouteCounts& counts() { return counts_; }

 private:
  RouteCounts counts_;
  std::vector<int32_t> ids_;  // host copy of a tensor on a GPU, here and below
};

// Counts, for each u, this rank's tokens that use u distinct experts over all layers.
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

// How RandomRoutes draws experts.
struct RandomRouteSettings {
  enum class Gate : uint8_t {
    kOriginal,  // random expert j gets the gate of the router's j-th choice
    kOwn,       // its own router score, which may be 0
    kOne,       // 1
  };
  enum class Draw : uint8_t { kToken, kSequence };  // one draw per token, or one per sequence

  Gate gate = Gate::kOriginal;
  Draw draw = Draw::kToken;
  uint64_t seed = 0;
};
// Parse the values of --gate and --draw.
absl::StatusOr<RandomRouteSettings::Gate> ParseGate(const std::string& name);
absl::StatusOr<RandomRouteSettings::Draw> ParseDraw(const std::string& name);
const char* GateName(RandomRouteSettings::Gate gate);
const char* DrawName(RandomRouteSettings::Draw draw);

// Replaces the routes of one layer by experts drawn uniformly without repetition. The draw depends
// only on the seed, the layer, the token's sequence id and its position, not on batches or ranks.
class RandomRoutes : public BatchHook {
 public:
  // Draws from `experts`, numbers within the layer's pool, at least top_k of them.
  RandomRoutes(const RandomRouteSettings& settings, int layer, std::vector<int32_t> experts);
  void OnBatch(const TokenBatch& batch) override;
  void OnRouting(Context& ctx, int layer, const Router::Saved& routing) override;

 private:
  void DrawExperts(uint64_t position, int64_t top_k);

  const RandomRouteSettings settings_;
  const int layer_;
  const std::vector<int32_t> experts_;
  const Rng rng_;
  std::vector<int64_t> sequence_ids_;  // of the current batch
  int64_t sequence_ = 0;               // tokens of each sequence of the batch
  std::vector<int32_t> remaining_;     // experts that the current token has not drawn
  std::vector<int32_t> drawn_;
  std::vector<int32_t> ids_;
  std::vector<float> gates_;
  std::vector<float> scores_;
};

}  // namespace unipool
