#include "model/transformer.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "model/router_constant.h"
#include "runtime/copy.h"
#include "runtime/finite_check.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
#include "runtime/ops/rope.h"
#include "runtime/status.h"

namespace unipool {
namespace {

RouterSettings::Kind RouterKind(config::Pool::Router router) {
  if (router == config::Pool::NORM) return RouterSettings::Kind::kNorm;
  if (router == config::Pool::SOFTMAX) return RouterSettings::Kind::kSoftmax;
  return RouterSettings::Kind::kSigmoidBias;
}

RouterSettings MakeRouterSettings(const config::Pool& pool) {
  const bool norm = pool.router() == config::Pool::NORM;
  double c = norm ? pool.router_c() : 0;
  if (norm && c == 0) {
    c = EstimateRouterConstant(static_cast<int>(pool.experts()), static_cast<int>(pool.top_k())).c;
  }
  return {.kind = RouterKind(pool.router()),
          .experts = pool.experts(),
          .top_k = pool.top_k(),
          .c = static_cast<float>(c),
          .eps = pool.router_eps(),
          .bias_rate = static_cast<float>(pool.bias_rate())};
}

BalanceSource MakeSource(config::Pool::Statistics statistics) {
  return statistics == config::Pool::LOCAL ? BalanceSource::kThisRank
                                           : BalanceSource::kPreviousStep;
}

BalanceSettings MakeBalance(const config::Pool& pool) {
  return {.pool_coefficient = pool.pool_loss(),
          .layer_coefficient = pool.layer_loss(),
          .pool_source = MakeSource(pool.statistics()),
          .layer_source = MakeSource(pool.layer_statistics())};
}

ExpertShape MakeExpertShape(const config::Model& model) {
  return {
      .hidden = model.hidden(),
      .ffn = model.ffn(),
      .init_std = model.init_std(),
      .output_init_std = model.init_std() / std::sqrt(2.0f * static_cast<float>(model.layers())),
      .recompute = model.recompute() != config::Model::NONE};
}

// One map per pool. If the experts do not divide by the ranks, each pool starts the larger blocks
// at another rank.
std::vector<ExpertMap> MakeMaps(const config::Run& run, int ranks) {
  std::vector<ExpertMap> maps;
  if (run.model().ffn_kind() == config::Model::DENSE) return maps;
  const int experts = static_cast<int>(run.pool().experts());
  const int pools = static_cast<int>(run.model().layers() / run.pool().layers_per_pool());
  for (int pool = 0; pool < pools; ++pool) {
    maps.push_back(ExpertMap::Blocks(experts, ranks, pool * (experts % ranks) % ranks));
    if (run.parallel().exchange_chunks() > 0) {
      maps.back().SetChunks(run.parallel().exchange_chunks());
    }
  }
  return maps;
}

absl::StatusOr<std::unique_ptr<LoadStatistics>> MakeStatistics(const config::Run& run,
                                                               const std::vector<ExpertMap>& maps,
                                                               Device device) {
  std::vector<int> pool_of_layer, experts_of_pool;
  for (const ExpertMap& map : maps) experts_of_pool.push_back(map.experts());
  for (int64_t layer = 0; !maps.empty() && layer < run.model().layers(); ++layer) {
    pool_of_layer.push_back(static_cast<int>(layer / run.pool().layers_per_pool()));
  }
  return LoadStatistics::Create(std::move(pool_of_layer), std::move(experts_of_pool), device);
}

// Computed on the host, so that every device uses the same angles.
absl::StatusOr<Buffer> MakeRopeTable(const config::Model& model, Device device, Tensor* table) {
  const int64_t bytes = model.sequence() * model.head_dim() * int64_t{sizeof(float)};
  ASSIGN_OR_RETURN(const Buffer on_host, Buffer::Allocate(Device{}, bytes));
  ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(device, bytes));
  const RopeTable op{.base = model.rope_base(),
                     .table = Tensor::Of(static_cast<float*>(on_host.data()),
                                         {model.sequence(), model.head_dim()})};
  op.Check();
  ComputeOnCpu(op);
  *table = op.table;
  table->data = buffer.data();
  table->device = device;
  WriteTensor(on_host.data(), *table);
  return buffer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const config::Run& run,
                                                                 ParameterList& parameters,
                                                                 Communicator& expert_group,
                                                                 Device device) {
  const config::Model& model = run.model();
  auto self = std::unique_ptr<Transformer>(new Transformer());
  self->hidden_ = model.hidden();
  self->gradient_layers_ = run.pool().gradient_layers();
  self->recompute_blocks_ = model.recompute() == config::Model::BLOCK;
  ASSIGN_OR_RETURN(self->rope_buffer_, MakeRopeTable(model, device, &self->rope_table_));
  self->maps_ = MakeMaps(run, expert_group.size());
  ASSIGN_OR_RETURN(self->statistics_, MakeStatistics(run, self->maps_, device));
  self->exchange_ = std::make_unique<TokenExchange>(expert_group);
  ASSIGN_OR_RETURN(self->balance_,
                   BalanceLosses::Create(*self->statistics_, MakeBalance(run.pool())));
  self->embedding_ =
      std::make_unique<Embedding>(parameters, model.vocab(), model.hidden(), model.init_std());
  self->pools_.reserve(self->maps_.size());  // layers hold references into it
  for (size_t pool = 0; pool < self->maps_.size(); ++pool) {
    self->pools_.push_back(ExpertPool::Sharded(parameters, static_cast<int>(pool),
                                               self->maps_[pool].owned(expert_group.rank()),
                                               MakeExpertShape(model)));
  }
  self->AddBlocks(run, parameters);
  self->final_norm_ =
      std::make_unique<Norm>(parameters, "model.norm.weight", model.hidden(), model.norm_eps());
  self->head_ = std::make_unique<Linear>(
      parameters, std::vector<Linear::Part>{{"lm_head.weight", model.vocab()}},
      Linear::Settings{.in = model.hidden(), .init_std = model.init_std()});
  return self;
}

void Transformer::AddBlocks(const config::Run& run, ParameterList& parameters) {
  const config::Model& model = run.model();
  const bool dense = model.ffn_kind() == config::Model::DENSE;
  const RouterSettings router = dense ? RouterSettings{} : MakeRouterSettings(run.pool());
  router_c_ = router.c;
  const ExpertShape expert = MakeExpertShape(model);
  const AttentionShape attention{.hidden = model.hidden(),
                                 .heads = model.heads(),
                                 .kv_heads = model.kv_heads(),
                                 .head_dim = model.head_dim()};
  const SharedParts shared{
      .exchange = exchange_.get(), .statistics = statistics_.get(), .balance = balance_.get()};
  for (int layer = 0; layer < model.layers(); ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer);
    std::unique_ptr<FeedForward> ffn;
    if (dense) {
      ffn = std::make_unique<DenseLayer>(ExpertPool::Dense(parameters, layer, expert));
    } else {
      const int pool = statistics_->pool_of_layer(layer);
      ffn = std::make_unique<MoeLayer>(
          layer,
          Router(parameters, prefix + ".mlp.router", model.hidden(), router, model.init_std()),
          pools_[pool], maps_[pool], shared);
    }
    blocks_.emplace_back(
        Norm(parameters, prefix + ".input_layernorm.weight", model.hidden(), model.norm_eps()),
        Attention(parameters, prefix + ".self_attn", attention, model.init_std(),
                  expert.output_init_std),
        Norm(parameters, prefix + ".post_attention_layernorm.weight", model.hidden(),
             model.norm_eps()),
        std::move(ffn));
  }
}

void Transformer::SetExchangeChunks(int chunks) {
  for (ExpertMap& map : maps_) map.SetChunks(chunks);
}

int Transformer::max_exchange_chunks() const {
  int max = 1;
  for (const ExpertMap& map : maps_) max = std::max(max, map.max_chunks());
  return max;
}

Transformer::Saved Transformer::NewSaved() const {
  return Saved{.blocks = std::vector<Block::Saved>(blocks_.size()), .last = {}, .rstd = {}};
}

void Transformer::StartStep(Context& ctx, int64_t total_tokens) {
  total_tokens_ = total_tokens;
  balance_->StartStep(ctx, total_tokens);
}

void Transformer::TrainMicroBatch(Context& ctx, const MicroBatch& batch, Saved& saved,
                                  const LossSums& sums) {
  ArenaScope scope(*ctx.arena);
  const Tensor y = Forward(
      ctx, {.tokens = batch.tokens, .rope_table = rope_table_, .pass = {.sums = &sums}}, &saved);
  const Tensor dx = Activations(ctx, {y.dim(0), y.dim(1)});
  CrossEntropyAndGradient(ctx, *head_,
                          {.x = y,
                           .targets = batch.targets,
                           .scale = 1.0f / static_cast<float>(total_tokens_),
                           .dx = dx,
                           .sum = sums.cross_entropy()});
  Backward(ctx, batch.tokens, saved, dx);
  statistics_->FinishMicroBatch(ctx, batch.tokens.numel());
}

void Transformer::FinishStep(Context& ctx, Communicator& world) {
  statistics_->FinishStep(ctx, world);
  for (Block& block : blocks_) block.FinishStep(ctx);
}

void Transformer::Evaluate(Context& ctx, const Evaluation& evaluation, Saved& saved) const {
  ArenaScope scope(*ctx.arena);
  const int64_t sequence = evaluation.sequence == 0 ? rope_table_.dim(0) : evaluation.sequence;
  const Tensor y = Forward(ctx,
                           {.tokens = evaluation.tokens,
                            .rope_table = rope_table_.Rows(0, sequence),
                            .pass = {.hook = evaluation.hook}},
                           &saved);
  CrossEntropyOfTokens(ctx, *head_,
                       {.x = y, .targets = evaluation.targets, .results = evaluation.results});
}

// With recomputation of blocks, the layers use these tensors one after the other, so all layers
// share one set of them.
void Transformer::AllocateShared(Context& ctx, int64_t tokens, int64_t sequence,
                                 Saved* saved) const {
  blocks_[0].Allocate(ctx, tokens, sequence, &saved->blocks[0]);
  std::fill(saved->blocks.begin() + 1, saved->blocks.end(), saved->blocks[0]);
}

Tensor Transformer::Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const {
  Tensor x = Activations(ctx, {args.tokens.numel(), hidden_});
  embedding_->Forward(ctx, args.tokens, x);
  const int64_t sequence = args.rope_table.dim(0);
  const bool training = args.pass.sums != nullptr, shared = training && recompute_blocks_;
  const auto forward = [&](size_t layer) {
    return blocks_[layer].Forward(ctx, {.x = x, .rope_table = args.rope_table, .pass = args.pass},
                                  &saved->blocks[layer]);
  };
  if (shared) AllocateShared(ctx, x.dim(0), sequence, saved);
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    SetProgress(ctx, "forward", static_cast<int>(layer));
    if (ctx.finite_check != nullptr) {
      ctx.finite_check->where = absl::StrCat("the forward of model.layers.", layer);
    }
    if (training) {
      if (!shared) blocks_[layer].Allocate(ctx, x.dim(0), sequence, &saved->blocks[layer]);
      x = forward(layer);
      continue;
    }
    ArenaScope scope(*ctx.arena);  // no backward follows, so the layer's memory is released
    blocks_[layer].Allocate(ctx, x.dim(0), sequence, &saved->blocks[layer]);
    const Tensor y = forward(layer);
    Compute(ctx, Copy{.x = y, .y = x});
  }
  if (ctx.finite_check != nullptr) ctx.finite_check->where = "the final norm and lm_head";
  saved->last = x;
  saved->rstd = ctx.arena->New({x.dim(0)});
  const Tensor y = Activations(ctx, {x.dim(0), hidden_});
  final_norm_->Forward(ctx, {.x = x, .y = y, .rstd = saved->rstd});
  return y;
}

void Transformer::Backward(Context& ctx, Tensor tokens, Saved& saved, Tensor dx) {
  const Tensor dlast = Activations(ctx, {dx.dim(0), hidden_});
  final_norm_->Backward(
      ctx, {.dy = dx, .x = saved.last, .rstd = saved.rstd, .dx = dlast, .add_to_dx = false});
  BackwardBlocks(ctx, saved, dlast);
  embedding_->Backward(ctx, tokens, dlast);
}

// A pool computes its deferred weight gradients at its lowest layer, and before that whenever
// pool.gradient_layers layers are deferred. The memory of their operands is then released.
void Transformer::BackwardBlocks(Context& ctx, Saved& saved, Tensor dx) {
  const Tensor dbranch = Activations(ctx, {dx.dim(0), hidden_});
  int64_t mark = ctx.arena->used_bytes();
  for (int layer = num_layers() - 1; layer >= 0; --layer) {
    SetProgress(ctx, "backward", layer);
    if (ctx.finite_check != nullptr) {
      ctx.finite_check->where = absl::StrCat("the backward of model.layers.", layer);
    }
    Block& block = blocks_[layer];
    // The tensors that the layers share still hold the values of the last layer.
    if (recompute_blocks_ && layer + 1 < num_layers()) {
      block.Recompute(ctx, rope_table_, saved.blocks[layer]);
    }
    const bool lowest = layer == 0 || &blocks_[layer - 1].pool() != &block.pool();
    const bool compute = lowest || block.pool().deferred_layers() + 1 == gradient_layers_;
    block.Backward(
        ctx,
        {.rope_table = rope_table_,
         .dx = dx,
         .dbranch = dbranch,
         .weight_gradients = compute ? WeightGradients::kCompute : WeightGradients::kDefer},
        saved.blocks[layer]);
    if (compute) ctx.arena->Release(mark);
  }
}

}  // namespace unipool
