// The language model: embedding, blocks, final norm, output head, and the pools that the blocks'
// layers share. One class for dense, vanilla MoE (a pool a layer) and UniPool (one pool for all).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "comm/expert_map.h"
#include "comm/load_statistics.h"
#include "comm/token_exchange.h"
#include "model/block.h"
#include "model/embedding.h"
#include "model/losses.h"
#include "model/parameter.h"
#include "runtime/buffer.h"
#include "runtime/context.h"

namespace unipool {

namespace config {
class Run;
}

class Transformer {
 public:
  // Everything a training micro-batch keeps from forward to backward. Owned by the caller, made
  // once.
  struct Saved {
    std::vector<Block::Saved> blocks;
    Tensor last;  // the last block's output
    Tensor rstd;  // of the final norm
  };

  // Adds the model's parameters to `parameters` (not yet Allocated). `run` is resolved and checked.
  // `expert_group` shares the experts. Both are borrowed and outlive the model, which computes on
  // `device`: tensors of all calls are there, and of what the Context says activations are.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const config::Run& run,
                                                             ParameterList& parameters,
                                                             Communicator& expert_group,
                                                             Device device = {});

  Saved NewSaved() const;

  // Before the first micro-batch of a step whose global batch has `total_tokens`.
  void StartStep(Context& ctx, int64_t total_tokens);
  // Forward and backward of one micro-batch: adds to the parameters' gradients, to the statistics
  // and to `sums`. tokens, targets: int32 [sequences * sequence], possibly none.
  void TrainMicroBatch(Context& ctx, Tensor tokens, Tensor targets, Saved& saved,
                       const LossSums& sums);
  // After the last micro-batch: sums the statistics over all ranks of `world`, and moves the
  // routers' biases by them. Collective.
  void FinishStep(Context& ctx, Communicator& world);
  struct Evaluation {
    Tensor tokens;  // int32 [sequences * sequence], possibly none
    Tensor targets;
    int64_t sequence = 0;  // tokens of each sequence, at most model.sequence; 0 = all of them
    TokenResults results = {};
    RoutingHook* hook = nullptr;  // borrowed for the call
  };
  // Forward only. Changes nothing but the results.
  void Evaluate(Context& ctx, const Evaluation& evaluation, Saved& saved) const;

  LoadStatistics& statistics() { return *statistics_; }
  TokenExchange& exchange() { return *exchange_; }
  // Rows of every pool travel in as many chunks (comm/expert_map.h); between passes. Results are
  // the same bits whatever the number.
  void SetExchangeChunks(int chunks);
  int max_exchange_chunks() const;
  int num_layers() const { return static_cast<int>(blocks_.size()); }
  // Of NormRouter; 0 for other routers and dense models.
  float router_c() const { return router_c_; }
  // By pool: which rank of the expert group owns each expert.
  const std::vector<ExpertMap>& maps() const { return maps_; }

 private:
  Transformer() = default;

  void AddBlocks(const config::Run& run, ParameterList& parameters);
  // Returns the normed output of the last block.
  Tensor Forward(Context& ctx, Tensor tokens, Tensor rope_table, const Pass& pass,
                 Saved* saved) const;
  // dx holds the gradient of Forward's result.
  void Backward(Context& ctx, Tensor tokens, Saved& saved, Tensor dx);
  void BackwardBlocks(Context& ctx, Saved& saved, Tensor dx);
  void AllocateTogether(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const;

  int64_t hidden_ = 0;
  int64_t gradient_layers_ = 0;
  bool recompute_blocks_ = false;
  int64_t total_tokens_ = 0;
  float router_c_ = 0;
  Buffer rope_buffer_;
  Tensor rope_table_;
  std::vector<ExpertMap> maps_;    // by pool
  std::vector<ExpertPool> pools_;  // by pool; empty for a dense model, whose layers own theirs
  std::unique_ptr<TokenExchange> exchange_;
  std::unique_ptr<LoadStatistics> statistics_;
  std::unique_ptr<BalanceLosses> balance_;
  std::unique_ptr<Embedding> embedding_;
  std::vector<Block> blocks_;
  std::unique_ptr<Norm> final_norm_;
  std::unique_ptr<Linear> head_;
};

}  // namespace unipool
