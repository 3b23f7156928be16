// Reads and changes the routing of an evaluation. Training has no hook.
#pragma once

#include "model/router.h"
#include "runtime/context.h"

namespace unipool {

class RoutingHook {
 public:
  virtual ~RoutingHook() = default;

  // Every MoE layer, from the lowest, calls it between the choice of experts and the exchange, also
  // if it has no tokens. The hook may overwrite routing.ids and routing.gates, which are on the
  // model's device, with work on ctx.stream; the layer then uses the new values.
  virtual void OnRouting(Context& ctx, int layer, const Router::Saved& routing) = 0;
};

}  // namespace unipool
