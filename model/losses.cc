#include "model/losses.h"

#include <algorithm>
#include <utility>

#include "runtime/ops/compute.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/elementwise.h"
#include "runtime/ops/load_balance.h"
#include "runtime/ops/top_k.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kChunkTokens = 512;
constexpr int64_t kChunkTokensOnGpu = 4096;

// Multiplies shares by `factor`, in place.
void Scale(double factor, absl::Span<double> shares) {
  for (double& share : shares) share *= factor;
}

}  // namespace

absl::StatusOr<LossSums> LossSums::Create(Device device) {
  LossSums self;
  ASSIGN_OR_RETURN(self.sums_, MirroredTensor::Create(device, DType::kFloat64, 3));
  return self;
}

void LossSums::Clear(Context& ctx) { Compute(ctx, Fill{.x = sums_.on_device(), .value = 0}); }

LossSums::Values LossSums::Read(Stream& stream) {
  sums_.DownloadNow(stream);
  const double* sums = sums_.on_host().as<double>();
  return {.cross_entropy = sums[0], .pool_balance = sums[1], .layer_balance = sums[2]};
}

int64_t CrossEntropyChunk(DeviceType device) {
  return device == DeviceType::kCuda ? kChunkTokensOnGpu : kChunkTokens;
}

void CrossEntropyAndGradient(Context& ctx, const Linear& head, const CrossEntropyArgs& args) {
  const Tensor& x = args.x;
  const int64_t tokens = x.dim(0);
  ArenaScope scope(*ctx.arena);
  const int64_t chunk_tokens = CrossEntropyChunk(x.device.type);
  // Of the weights' type, since the gradient overwrites the logits.
  const Tensor logits = ctx.arena->Allocate(x.dtype, {std::min(tokens, chunk_tokens), head.out()});
  const Tensor losses = ctx.arena->New({tokens});
  for (int64_t begin = 0; begin < tokens; begin += chunk_tokens) {
    const int64_t end = std::min(tokens, begin + chunk_tokens);
    const Tensor chunk = logits.Rows(0, end - begin);
    head.Forward(ctx, {.x = x.Rows(begin, end), .y = chunk});
    Compute(ctx, CrossEntropyGradient{.logits = chunk,
                                      .targets = args.targets.Rows(begin, end),
                                      .scale = args.scale,
                                      .losses = losses.Rows(begin, end)});
    head.Backward(
        ctx,
        {.dy = chunk, .x = x.Rows(begin, end), .dx = args.dx.Rows(begin, end), .add_to_dx = false});
  }
  Compute(ctx, SumLosses{.losses = losses, .weight = double{args.scale}, .sum = args.sum});
}

void CrossEntropyOfTokens(Context& ctx, const Linear& head, const TokenLossArgs& args) {
  const Tensor& x = args.x;
  const TokenResults& results = args.results;
  const int64_t tokens = x.dim(0);
  ArenaScope scope(*ctx.arena);
  const bool choose = !results.likeliest.absent();
  const Tensor logits = ctx.arena->New({std::min(tokens, kChunkTokens), head.out()});
  const Tensor largest = ctx.arena->New({choose ? logits.dim(0) : 0, 1});
  for (int64_t begin = 0; begin < tokens; begin += kChunkTokens) {
    const int64_t end = std::min(tokens, begin + kChunkTokens);
    const Tensor chunk = logits.Rows(0, end - begin);
    head.Forward(ctx, {.x = x.Rows(begin, end), .y = chunk});
    if (choose) {
      Compute(ctx, TopK{.scores = chunk,
                        .ids = results.likeliest.Rows(begin, end),
                        .values = largest.Rows(0, end - begin)});
    }
    Compute(ctx, CrossEntropyForward{.logits = chunk,
                                     .targets = args.targets.Rows(begin, end),
                                     .losses = results.losses.Rows(begin, end)});
  }
}

BalanceLosses::BalanceLosses(const LoadStatistics& statistics, const BalanceSettings& settings)
    : statistics_(statistics), settings_(settings), layers_of_pool_(statistics.num_pools(), 0) {}

absl::StatusOr<std::unique_ptr<BalanceLosses>> BalanceLosses::Create(
    const LoadStatistics& statistics, const BalanceSettings& settings) {
  auto self = std::unique_ptr<BalanceLosses>(new BalanceLosses(statistics, settings));
  int64_t experts = 0;
  for (int layer = 0; layer < statistics.num_layers(); ++layer) {
    ++self->layers_of_pool_[statistics.pool_of_layer(layer)];
    self->first_.push_back(experts);
    experts += statistics.experts(layer);
  }
  self->first_.push_back(experts);
  ASSIGN_OR_RETURN(self->weights_,
                   MirroredTensor::Create(statistics.device(), DType::kFloat64, 2 * experts));
  ASSIGN_OR_RETURN(
      self->score_gradients_,
      Buffer::Allocate(statistics.device(), experts * static_cast<int64_t>(sizeof(float))));
  return self;
}

void BalanceLosses::StartStep(Context& ctx, int64_t total_tokens) {
  total_tokens_ = total_tokens;
  const Tensor weights = weights_.on_host();
  for (int layer = 0; layer < statistics_.num_layers(); ++layer) {
    double* const first = weights.as<double>() + 2 * first_[layer];
    const auto experts = static_cast<size_t>(statistics_.experts(layer));
    WriteStepWeights(layer, {first, experts}, {first + experts, experts});
  }
  weights_.Upload(*ctx.stream);
}

void BalanceLosses::WriteStepWeights(int layer, absl::Span<double> pool,
                                     absl::Span<double> own) const {
  std::fill(pool.begin(), pool.end(), 0.0);
  std::fill(own.begin(), own.end(), 0.0);
  if (has_step_shares(settings_.pool_source)) {
    statistics_.PoolShares(statistics_.pool_of_layer(layer), pool);
    Scale(PoolFactor(layer), pool);
  }
  if (has_step_shares(settings_.layer_source)) {
    statistics_.LayerShares(layer, own);
    Scale(LayerFactor(layer), own);
  }
}

void BalanceLosses::UpdateMicroBatchShares(Context& ctx, int layer) {
  const Tensor weights = Weights(layer);
  if (settings_.pool_source == BalanceSource::kThisRank && statistics_.has_previous_micro_batch()) {
    const int pool = statistics_.pool_of_layer(layer);
    Compute(ctx, LoadShares{.counts = statistics_.previous_micro_batch(pool),
                            .factor = PoolFactor(layer),
                            .shares = weights.Rows(0, 1)});
  }
  if (settings_.layer_source == BalanceSource::kThisRank) {
    Compute(ctx,
            LoadShares{.counts = statistics_.counts(layer).Reshape({1, statistics_.experts(layer)}),
                       .factor = LayerFactor(layer),
                       .shares = weights.Rows(1, 2)});
  }
}

double BalanceLosses::PoolFactor(int layer) const {
  const int layers = layers_of_pool_[statistics_.pool_of_layer(layer)];
  return settings_.pool_coefficient / layers * statistics_.experts(layer) /
         static_cast<double>(total_tokens_);
}

double BalanceLosses::LayerFactor(int layer) const {
  return settings_.layer_coefficient * statistics_.experts(layer) /
         static_cast<double>(total_tokens_);
}

void BalanceLosses::Add(Context& ctx, int layer, Tensor scores, const LossSums& sums) {
  UpdateMicroBatchShares(ctx, layer);
  ArenaScope scope(*ctx.arena);
  const Tensor column_sums = ctx.arena->New<double>({scores.dim(1)});
  Compute(ctx, Fill{.x = column_sums, .value = 0});
  Compute(ctx, ColumnSums{.scores = scores, .sums = column_sums});
  Compute(ctx, BalanceLoss{.column_sums = column_sums,
                           .weights = Weights(layer),
                           .losses = sums.balance(),
                           .score_gradient = score_gradient(layer)});
}

Tensor BalanceLosses::Weights(int layer) const {
  return weights_.on_device()
      .Rows(2 * first_[layer], 2 * first_[layer + 1])
      .Reshape({2, statistics_.experts(layer)});
}

Tensor BalanceLosses::score_gradient(int layer) const {
  return Tensor::Of(static_cast<float*>(score_gradients_.data()) + first_[layer],
                    {statistics_.experts(layer)}, statistics_.device());
}

}  // namespace unipool
