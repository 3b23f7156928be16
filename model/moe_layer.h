// The feed-forward half of a block: a Mixture-of-Experts layer, or a dense one.
//
// An MoeLayer owns its router and borrows everything that layers share: the pool, the map of the
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

// What the layers of a model share. Borrowed; outlives them.
struct SharedParts {
  TokenExchange* exchange;
  LoadStatistics* statistics;
  BalanceLosses* balance;
};

// What a forward pass is for, besides its result.
struct Pass {
  const LossSums* sums =
      nullptr;                  // given in training: choices are counted, balance losses added here
  RoutingHook* hook = nullptr;  // may be given in evaluation
};

class FeedForward {
 public:
  struct Saved {
    Router::Saved router;
    DispatchPlan plan;
    ExpertPool::Saved experts;
    Tensor returned;  // the experts' results as they came back
  };

  virtual ~FeedForward() = default;

  // Takes the memory of what Recompute gives from the arena.
  virtual void Allocate(Context&, int64_t /*tokens*/, Saved*) const {}
  // Computes the router's scores again, from x. Chooses, counts and exchanges nothing.
  virtual void Recompute(Context&, Tensor /*x*/, const Saved&) const {}
  // y = base + f(x); all [tokens, hidden].
  virtual void Forward(Context& ctx, Tensor x, Tensor base, Tensor y, const Pass& pass,
                       Saved* saved) const = 0;
  // Overwrites dx, given dy. Uses up `saved`. The pool notes its weight gradients and, where
  // `flush` says that they are due, runs them, while rows travel; until then what they need stays
  // in the arena.
  virtual void Backward(Context& ctx, Tensor dy, Tensor x, Saved& saved, Tensor dx, bool flush) = 0;
  // After a step whose statistics are finished.
  virtual void FinishStep(Context&) {}
  virtual ExpertPool& pool() = 0;
};

class MoeLayer : public FeedForward {
 public:
  MoeLayer(int layer, Router router, ExpertPool& pool, const ExpertMap& map, SharedParts shared);

  void Allocate(Context& ctx, int64_t tokens, Saved* saved) const override;
  void Recompute(Context& ctx, Tensor x, const Saved& saved) const override;
  void Forward(Context& ctx, Tensor x, Tensor base, Tensor y, const Pass& pass,
               Saved* saved) const override;
  void Backward(Context& ctx, Tensor dy, Tensor x, Saved& saved, Tensor dx, bool flush) override;
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

  void Forward(Context& ctx, Tensor x, Tensor base, Tensor y, const Pass& pass,
               Saved* saved) const override;
  void Backward(Context& ctx, Tensor dy, Tensor x, Saved& saved, Tensor dx, bool flush) override;
  ExpertPool& pool() override { return pool_; }

 private:
  ExpertPool pool_;
};

}  // namespace unipool
