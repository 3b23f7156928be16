// What an evaluation may see and change of routing. Training has no hook.
#pragma once

#include "model/router.h"
#include "runtime/context.h"

namespace unipool {

class RoutingHook {
 public:
  virtual ~RoutingHook() = default;

  // Called by every MoE layer, lowest first, between the choice of experts and the exchange, also
  // with no tokens. What it writes to routing.ids and routing.gates, on the model's device and in
  // the order of ctx.stream, is what the layer then does.
  virtual void OnRouting(Context& ctx, int layer, const Router::Saved& routing) = 0;
};

}  // namespace unipool
