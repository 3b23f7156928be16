// The feed-forward half of a block: a Mixture-of-Experts layer or a dense layer.
//
// An MoeLayer owns its router and borrows the parts that layers share: the pool, the map of the
// pool's experts, the exchange, the statistics and the balance losses.
#pragma once

#include "comm/expert_map.h"
#include "comm/load_statistics.h"
#include "comm/token_exchange.h"
#include "model/expert_pool.h"
#include "model/losses.h"
#include "model/router.h"
#include "model/routing_hook.h"
#include "runtime/context.h"

namespace unipool {

// Parts shared by all MoE layers of a model. Borrowed; they outlive the layers.
struct SharedParts {
  TokenExchange* exchange;
  LoadStatistics* statistics;
  BalanceLosses* balance;
};

// Options of a forward pass.
struct Pass {
  // Set in training: the layers count their choices and add their balance losses here.
  const LossSums* sums = nullptr;
  RoutingHook* hook = nullptr;  // optional, in evaluation only
};

class FeedForward {
 public:
  struct Saved {
    Router::Saved router;
    DispatchPlan plan;
    ExpertPool::Saved experts;
    Tensor returned;  // [plan.sent, hidden]: the experts' results at their tokens
  };
  struct ForwardArgs {
    Tensor x;     // [tokens, hidden]
    Tensor base;  // [tokens, hidden]
    Tensor y;     // out [tokens, hidden]
    Pass pass = {};
  };
  struct BackwardArgs {
    Tensor dy;  // [tokens, hidden]
    Tensor x;   // [tokens, hidden]
    Tensor dx;  // out [tokens, hidden], overwritten
    WeightGradients weight_gradients;
  };

  virtual ~FeedForward() = default;

  // Allocates the tensors that Recompute fills from the arena.
  virtual void Allocate(Context&, int64_t /*tokens*/, Saved*) const {}
  // Computes the router's scores again from x. Does not choose, count or exchange.
  virtual void Recompute(Context&, Tensor /*x*/, const Saved&) const {}
  // y = base + f(x).
  virtual void Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const = 0;
  // Computes dx from dy and overwrites tensors of `saved`. Until the pool computes its deferred
  // weight gradients, their operands stay allocated in the arena.
  virtual void Backward(Context& ctx, const BackwardArgs& args, Saved& saved) = 0;
  // Call it after each step, when its statistics are finished.
  virtual void FinishStep(Context&) {}
  virtual ExpertPool& pool() = 0;
};

class MoeLayer : public FeedForward {
 public:
  MoeLayer(int layer, Router router, ExpertPool& pool, const ExpertMap& map, SharedParts shared);

  void Allocate(Context& ctx, int64_t tokens, Saved* saved) const override;
  void Recompute(Context& ctx, Tensor x, const Saved& saved) const override;
  void Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const override;
  void Backward(Context& ctx, const BackwardArgs& args, Saved& saved) override;
  void FinishStep(Context& ctx) override;
  ExpertPool& pool() override { return pool_; }

 private:
  void AddLosses(Context& ctx, const Saved& saved, const LossSums& sums) const;

  int layer_;
  Router router_;
  ExpertPool& pool_;
  const ExpertMap& map_;
  SharedParts shared_;
};

class DenseLayer : public FeedForward {
 public:
  explicit DenseLayer(ExpertPool pool);

  void Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const override;
  void Backward(Context& ctx, const BackwardArgs& args, Saved& saved) override;
  ExpertPool& pool() override { return pool_; }

 private:
  ExpertPool pool_;
};

}  // namespace unipool
