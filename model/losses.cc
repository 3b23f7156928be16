#include "model/losses.h"

#include <algorithm>
#include <numeric>

#include "runtime/ops/compute.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/elementwise.h"
#include "runtime/ops/top_k.h"

namespace unipool {
namespace {

// Large enough that products run at full rate, small enough that logits stay in a shared cache.
constexpr int64_t kChunkTokens = 512;

double Sum(const Tensor& losses) {
  const float* values = losses.as<float>();
  return std::accumulate(values, values + losses.numel(), 0.0);
}

}  // namespace

double CrossEntropyAndGradient(Context& ctx, const Linear& head, Tensor x, Tensor targets,
                               float scale, Tensor dx) {
  const int64_t tokens = x.dim(0);
  ArenaScope scope(*ctx.arena);
  const Tensor logits = ctx.arena->New({std::min(tokens, kChunkTokens), head.out()});
  const Tensor losses = ctx.arena->New({tokens});
  for (int64_t begin = 0; begin < tokens; begin += kChunkTokens) {
    const int64_t end = std::min(tokens, begin + kChunkTokens);
    const Tensor chunk = logits.Rows(0, end - begin);
    head.Forward(ctx, x.Rows(begin, end), chunk, false);
    Compute(ctx, CrossEntropyGradient{.logits = chunk,
                                      .targets = targets.Rows(begin, end),
                                      .scale = scale,
                                      .losses = losses.Rows(begin, end)});
    head.Backward(ctx, chunk, x.Rows(begin, end), dx.Rows(begin, end), false);
  }
  return scale * Sum(losses);
}

void CrossEntropyOfTokens(Context& ctx, const Linear& head, Tensor x, Tensor targets,
                          const TokenResults& results) {
  const int64_t tokens = x.dim(0);
  ArenaScope scope(*ctx.arena);
  const bool choose = !results.likeliest.absent();
  const Tensor logits = ctx.arena->New({std::min(tokens, kChunkTokens), head.out()});
  const Tensor largest = ctx.arena->New({choose ? logits.dim(0) : 0, 1});
  const Tensor counts = ctx.arena->New<int64_t>({choose ? head.out() : 0});
  if (choose) Compute(ctx, Fill{.x = counts, .value = 0});
  for (int64_t begin = 0; begin < tokens; begin += kChunkTokens) {
    const int64_t end = std::min(tokens, begin + kChunkTokens);
    const Tensor chunk = logits.Rows(0, end - begin);
    head.Forward(ctx, x.Rows(begin, end), chunk, false);
    if (choose) {
      Compute(ctx, TopK{.scores = chunk,
                        .bias = {},
                        .ids = results.likeliest.Rows(begin, end),
                        .gates = largest.Rows(0, end - begin),
                        .counts = counts});
    }
    Compute(ctx, CrossEntropyForward{.logits = chunk,
                                     .targets = targets.Rows(begin, end),
                                     .losses = results.losses.Rows(begin, end)});
  }
}

BalanceLosses::BalanceLosses(const LoadStatistics& statistics, const BalanceSettings& settings)
    : statistics_(statistics),
      settings_(settings),
      layers_of_pool_(statistics.num_pools(), 0),
      layers_(statistics.num_layers()) {
  for (int layer = 0; layer < statistics.num_layers(); ++layer) {
    ++layers_of_pool_[statistics.pool_of_layer(layer)];
    const int experts = statistics.experts(layer);
    layers_[layer] = {std::vector<double>(experts), std::vector<double>(experts),
                      std::vector<float>(experts)};
  }
}

void BalanceLosses::StartStep(int64_t total_tokens) {
  total_tokens_ = total_tokens;
  for (int l = 0; l < statistics_.num_layers(); ++l) {
    Layer& layer = layers_[l];
    if (has_step_shares(settings_.pool_source)) {
      const int pool = statistics_.pool_of_layer(l);
      statistics_.PoolShares(pool, absl::MakeSpan(layer.pool_weights));
      Scale(settings_.pool_coefficient / layers_of_pool_[pool], layer.pool_weights);
    }
    if (has_step_shares(settings_.layer_source)) {
      statistics_.LayerShares(l, absl::MakeSpan(layer.layer_weights));
      Scale(settings_.layer_coefficient, layer.layer_weights);
    }
  }
}

void BalanceLosses::TakeMicroBatchShares(int layer) {
  Layer& weights = layers_[layer];
  if (settings_.pool_source == BalanceSource::kThisRank && statistics_.has_previous_micro_batch()) {
    const int pool = statistics_.pool_of_layer(layer);
    statistics_.PreviousMicroBatchShares(pool, absl::MakeSpan(weights.pool_weights));
    Scale(settings_.pool_coefficient / layers_of_pool_[pool], weights.pool_weights);
  }
  if (settings_.layer_source == BalanceSource::kThisRank) {
    statistics_.MicroBatchShares(layer, absl::MakeSpan(weights.layer_weights));
    Scale(settings_.layer_coefficient, weights.layer_weights);
  }
}

// From shares to the derivative by one score.
void BalanceLosses::Scale(double coefficient, std::vector<double>& weights) const {
  const double factor =
      coefficient * static_cast<double>(weights.size()) / static_cast<double>(total_tokens_);
  for (double& weight : weights) weight *= factor;
}

void BalanceLosses::Add(Context& ctx, int layer, Tensor scores, LossSums* sums) {
  TakeMicroBatchShares(layer);
  Layer& weights = layers_[layer];
  ArenaScope scope(*ctx.arena);
  const Tensor column_sums = ctx.arena->New<double>({scores.dim(1)});
  double* sum = column_sums.as<double>();
  std::fill_n(sum, scores.dim(1), 0.0);
  Compute(ctx, ColumnSums{.scores = scores, .sums = column_sums});
  for (size_t e = 0; e < weights.column.size(); ++e) {
    sums->pool_balance += sum[e] * weights.pool_weights[e];
    sums->layer_balance += sum[e] * weights.layer_weights[e];
    weights.column[e] = static_cast<float>(weights.pool_weights[e] + weights.layer_weights[e]);
  }
}

Tensor BalanceLosses::column(int layer) const {
  const std::vector<float>& column = layers_[layer].column;
  return Tensor::Of(const_cast<float*>(column.data()), {static_cast<int64_t>(column.size())});
}

}  // namespace unipool
