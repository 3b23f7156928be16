// The language model: embedding, blocks, final norm, output head, and the pools of experts that the
// layers share. One class for dense models, vanilla MoE (one pool per layer) and UniPool (one pool
// for all layers).
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
  // Everything that a training micro-batch keeps from forward to backward. Owned by the caller;
  // NewSaved makes it once.
  struct Saved {
    std::vector<Block::Saved> blocks;
    Tensor last;  // [tokens, hidden]: the output of the last block
    Tensor rstd;  // float32 [tokens]: of the final norm
  };

  // Adds the model's parameters to `parameters`, which is not yet Allocated. `run` is resolved and
  // checked. `expert_group` is the ranks that share the experts. `parameters` and `expert_group`
  // are borrowed and outlive the model. The tensors of all calls are on `device`; activations have
  // the type of Context::dtype.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const config::Run& run,
                                                             ParameterList& parameters,
                                                             Communicator& expert_group,
                                                             Device device = {});

  Saved NewSaved() const;

  // Call it before the first micro-batch of a step. `total_tokens` is the size of the global batch.
  void StartStep(Context& ctx, int64_t total_tokens);
  struct MicroBatch {
    Tensor tokens;   // int32 [sequences * sequence], possibly empty
    Tensor targets;  // int32 [sequences * sequence]: the next token of each
  };
  // Forward and backward of one micro-batch: adds to the parameters' gradients, to the statistics
  // and to `sums`.
  void TrainMicroBatch(Context& ctx, const MicroBatch& batch, Saved& saved, const LossSums& sums);
  // Call it after the last micro-batch: sums the statistics over all ranks of `world` and updates
  // the routers' biases. Collective.
  void FinishStep(Context& ctx, Communicator& world);
  struct Evaluation {
    Tensor tokens;         // int32 [sequences * sequence], possibly empty
    Tensor targets;        // int32 [sequences * sequence]: the next token of each
    int64_t sequence = 0;  // tokens of each sequence, at most model.sequence; 0 = model.sequence
    TokenResults results = {};
    RoutingHook* hook = nullptr;  // borrowed for the call
  };
  // Forward only. Writes evaluation.results and nothing else of the model.
  void Evaluate(Context& ctx, const Evaluation& evaluation, Saved& saved) const;

  LoadStatistics& statistics() { return *statistics_; }
  TokenExchange& exchange() { return *exchange_; }
  // Sets the number of chunks in which the rows of every pool travel (ExpertMap::SetChunks). Call
  // it between passes. Results have the same bits for any number.
  void SetExchangeChunks(int chunks);
  int max_exchange_chunks() const;
  int num_layers() const { return static_cast<int>(blocks_.size()); }
  // The constant c of NormRouter; 0 for other routers and dense models.
  float router_c() const { return router_c_; }
  // The placement of each pool's experts on the expert group, by pool.
  const std::vector<ExpertMap>& maps() const { return maps_; }

 private:
  Transformer() = default;

  void AddBlocks(const config::Run& run, ParameterList& parameters);
  struct ForwardArgs {
    Tensor tokens;
    Tensor rope_table;  // float32 [sequence, head_dim]
    Pass pass = {};
  };
  // Returns the output of the final norm, [tokens, hidden] from the arena.
  Tensor Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const;
  // dx is the gradient of Forward's result.
  void Backward(Context& ctx, Tensor tokens, Saved& saved, Tensor dx);
  void BackwardBlocks(Context& ctx, Saved& saved, Tensor dx);
  void AllocateShared(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const;

  int64_t hidden_ = 0;
  int64_t gradient_layers_ = 0;
  bool recompute_blocks_ = false;
  int64_t total_tokens_ = 0;
  float router_c_ = 0;
  Buffer rope_buffer_;
  Tensor rope_table_;
  std::vector<ExpertMap> maps_;    // by pool
  std::vector<ExpertPool> pools_;  // by pool; empty for a dense model, whose layers own their pools
  std::unique_ptr<TokenExchange> exchange_;
  std::unique_ptr<LoadStatistics> statistics_;
  std::unique_ptr<BalanceLosses> balance_;
  std::unique_ptr<Embedding> embedding_;
  std::vector<Block> blocks_;
  std::unique_ptr<Norm> final_norm_;
  std::unique_ptr<Linear> head_;
};

}  // namespace unipool
