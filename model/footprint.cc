#include "model/footprint.h"

#include <algorithm>

#include "configs/run.pb.h"
#include "model/losses.h"
#include "model/precision.h"
#include "model/saturating.h"

namespace unipool {
namespace {

constexpr Saturating kFloat = 4;

Saturating ExpertParameters(const config::Model& model) {
  return Saturating(3) * model.hidden() * model.ffn();
}

bool IsDense(const config::Run& run) { return run.model().ffn_kind() == config::Model::DENSE; }

int64_t NumPools(const config::Run& run) {
  return run.model().layers() / run.pool().layers_per_pool();
}

int64_t ExpertRanks(const config::Run& run, int ranks) {
  return run.parallel().expert_parallel() == 0 ? ranks : run.parallel().expert_parallel();
}

// Transformer starts the larger blocks of experts at another rank in each pool. That repeats every
// `owners` pools.
Saturating ExpertsOnRank(const config::Run& run, int ranks, int rank) {
  const int64_t experts = run.pool().experts(), owners = ExpertRanks(run, ranks);
  const int64_t position = rank % owners, remainder = experts % owners, pools = NumPools(run);
  Saturating total = Saturating(pools) * (experts / owners);
  for (int64_t pool = 0; pool < std::min(pools, owners); ++pool) {
    const int64_t first = pool * remainder % owners;
    const bool is_larger = (position - first + owners) % owners < remainder;
    if (is_larger) total += (pools - pool + owners - 1) / owners;
  }
  return total;
}

Saturating QkvWidth(const config::Model& model) {
  return Saturating(model.heads() + 2 * model.kv_heads()) * model.head_dim();
}

// The maximum number of tokens of a rank in one micro-batch; data/batch_loader.h defines the split.
Saturating MicroBatchTokens(const config::Run& run, int ranks) {
  const int64_t global = run.data().global_batch(), limit = run.data().micro_batch();
  const int64_t steps = limit == 0 ? 1 : (global + ranks * limit - 1) / (ranks * limit);
  const int64_t all_ranks = (global + steps - 1) / steps;
  return Saturating((all_ranks + ranks - 1) / ranks) * run.model().sequence();
}

// Memory of a layer in the arena, in bytes. The peak is the backward of the lowest layer of a pool,
// when everything saved and the operands of the deferred weight gradients are in memory.
struct LayerBytes {
  Saturating kept;      // never recomputed: output, choices, rows and results of experts
  Saturating backbone;  // of a block, up to the router's scores
  Saturating gate_up;   // of its experts
  Saturating deferred;  // kept from the layer's backward until ExpertPool::ComputeDeferred
  Saturating backward_scratch;
};

// `value` is the size of an activation; float32 data has size kFloat.
LayerBytes PerLayer(const config::Run& run, Saturating tokens, int ranks, int64_t value) {
  const config::Model& model = run.model();
  const Saturating hidden = model.hidden(), ffn = model.ffn();
  const Saturating attention_width = Saturating(model.heads()) * model.head_dim();
  // Both normalized inputs and the residual between them; qkv and attention output; row statistics.
  const Saturating backbone = tokens * (value * (3 * hidden + QkvWidth(model) + attention_width) +
                                        kFloat * (model.heads() + 2));
  const Saturating attention_scratch = value * tokens * (attention_width + QkvWidth(model));
  if (IsDense(run)) {
    return {.kept = value * tokens * hidden,
            .backbone = backbone,
            .gate_up = value * tokens * 2 * ffn,
            .deferred = value * tokens * (hidden + ffn),
            .backward_scratch = attention_scratch};
  }
  const int64_t experts = run.pool().experts(), top_k = run.pool().top_k();
  const Saturating rows = tokens * top_k;  // with equal loads a rank receives as many as it sends
  const bool norm = run.pool().router() == config::Pool::NORM;
  const bool sums = run.pool().router() == config::Pool::SIGMOID_BIAS && top_k > 1;
  const Saturating choices = kFloat * (4 * rows + (sums ? tokens : Saturating(0)));
  const bool several_ranks = ExpertRanks(run, ranks) > 1;
  // The gradient of the logits, and with bfloat16 activations its four terms.
  const Saturating routing = kFloat * tokens * experts * (value == kFloat.value() ? 1 : 3);
  // Gradients of rows and gates; with several ranks also the rows in arrival order.
  const Saturating moe_scratch =
      rows * (kFloat + value * hidden * (several_ranks ? 2 : 1)) + routing;
  return {.kept = value * (tokens * hidden + rows * 2 * hidden) + choices +
                  (several_ranks ? rows * 2 * kFloat : Saturating(0)),
          .backbone = backbone + kFloat * tokens * experts * (norm ? 2 : 1),
          .gate_up = value * rows * 2 * ffn,
          .deferred = value * rows * (ffn + (several_ranks ? hidden : Saturating(0))),
          .backward_scratch = std::max(attention_scratch, moe_scratch)};
}

Saturating ActivationBytes(const config::Run& run, int ranks, DeviceType device) {
  const auto value = static_cast<int64_t>(SizeOf(ActivationType(run, device)));
  const config::Model& model = run.model();
  const Saturating tokens = MicroBatchTokens(run, ranks);
  const LayerBytes layer = PerLayer(run, tokens, ranks, value);
  int64_t deferred_layers = IsDense(run) ? 1 : run.pool().layers_per_pool();
  if (!IsDense(run) && run.pool().gradient_layers() > 0) {
    deferred_layers = std::min(deferred_layers, run.pool().gradient_layers());
  }
  const bool recomputes_experts = model.recompute() != config::Model::NONE;
  const bool recomputes_blocks = model.recompute() == config::Model::BLOCK;
  // With recomputation, all layers share the memory of one backbone, and only deferred layers hold
  // gate_up.
  const Saturating saved =
      model.layers() * (layer.kept + (recomputes_experts ? Saturating(0) : layer.gate_up)) +
      (recomputes_blocks ? 1 : model.layers()) * layer.backbone;
  const Saturating deferred = layer.deferred + (recomputes_experts ? layer.gate_up : Saturating(0));
  // The embedding's output, and y, dx, dlast and dbranch of Transformer.
  const Saturating streams = tokens * (Saturating(value) * 5 * model.hidden() + kFloat);
  const Saturating backward = streams + deferred_layers * deferred + layer.backward_scratch;
  const Saturating chunk = std::min<Saturating>(tokens, CrossEntropyChunk(device));
  const Saturating head =
      kFloat * tokens + value * (3 * tokens * model.hidden() + chunk * model.vocab());
  return saved + std::max(backward, head);
}

// `count` / `parts`, rounded up.
Saturating Share(int64_t count, int64_t parts) {
  return Saturating(count / parts) + (count % parts == 0 ? 0 : 1);
}

// This rank's part of a checkpoint: its share of the weights and their moments, if checkpoints are
// saved asynchronously during the run.
Saturating SnapshotBytes(const config::Run& run, int ranks, int64_t experts, int64_t replicated) {
  const config::Checkpoint& checkpoint = run.checkpoint();
  const bool none = checkpoint.every_steps() == 0 || checkpoint.every_steps() > run.steps();
  if (none || !checkpoint.asynchronous()) return 0;
  const int64_t replicas = ranks / ExpertRanks(run, ranks);
  return 3 * kFloat * (Share(experts, replicas) + Share(replicated, ranks));
}

}  // namespace

int64_t ParameterCounts::total() const {
  return (Saturating(embedding) + head + attention + norms + ffn + routers + router_scales).value();
}

int64_t ParameterCounts::dense() const { return total() - ffn; }

int64_t MemoryPlan::on_device() const {
  return (Saturating(values) + weights + gradients + moments + activations).value();
}

int64_t MemoryPlan::total() const { return (Saturating(on_device()) + snapshot).value(); }

ParameterCounts CountParameters(const config::Run& run) {
  const config::Model& model = run.model();
  ParameterCounts counts;
  const Saturating layers = model.layers(), hidden = model.hidden();
  counts.embedding = counts.head = (model.vocab() * hidden).value();
  const Saturating query_width = Saturating(model.heads()) * model.head_dim();
  counts.attention = (layers * hidden * (QkvWidth(model) + query_width)).value();
  counts.norms = ((2 * layers + 1) * hidden).value();
  if (IsDense(run)) {
    counts.ffn = (layers * ExpertParameters(model)).value();
    return counts;
  }
  const Saturating experts = run.pool().experts();
  counts.ffn = (NumPools(run) * experts * ExpertParameters(model)).value();
  counts.routers = (layers * experts * hidden).value();
  counts.router_scales = run.pool().router() == config::Pool::NORM ? model.layers() : 0;
  return counts;
}

int64_t ActiveParameters(const config::Run& run) {
  const ParameterCounts counts = CountParameters(run);
  if (IsDense(run)) return counts.total();
  const Saturating chosen = Saturating(run.model().layers()) * run.pool().top_k();
  return (counts.dense() + chosen * ExpertParameters(run.model())).value();
}

int64_t RankParameters(const config::Run& run, int ranks, int rank) {
  const ParameterCounts counts = CountParameters(run);
  if (IsDense(run)) return counts.total();
  return (counts.dense() + ExpertsOnRank(run, ranks, rank) * ExpertParameters(run.model())).value();
}

double TrainingFlopsPerToken(const config::Run& run) {
  const config::Model& model = run.model();
  const ParameterCounts counts = CountParameters(run);
  const double weights = static_cast<double>(ActiveParameters(run) - counts.embedding -
                                             counts.norms - counts.router_scales);
  const double attention =
      static_cast<double>(model.layers()) * static_cast<double>(model.heads()) *
      static_cast<double>(model.head_dim()) * static_cast<double>(model.sequence() + 1);
  return 6.0 * weights + 6.0 * attention;
}

MemoryPlan PlanMemory(const config::Run& run, int ranks, int rank, DeviceType device) {
  const auto value = static_cast<int64_t>(SizeOf(ActivationType(run, device)));
  const ParameterCounts counts = CountParameters(run);
  const int64_t replicated = IsDense(run) ? counts.total() : counts.dense();
  const int64_t here = RankParameters(run, ranks, rank);
  const Saturating values = here * kFloat;
  const Saturating moments = 2 * kFloat * (here - replicated + Share(replicated, ranks));
  return {.values = values.value(),
          .weights = value == kFloat.value() ? 0 : (Saturating(here) * value).value(),
          .gradients = values.value(),
          .moments = moments.value(),
          .activations = ActivationBytes(run, ranks, device).value(),
          .snapshot = SnapshotBytes(run, ranks, here - replicated, replicated).value()};
}

}  // namespace unipool
