// A layer's router: chooses experts of the layer's pool for each token. Every layer has its own,
// also where all layers share one pool.
#pragma once

#include <cstdint>
#include <string>

#include "model/linear.h"
#include "runtime/context.h"

namespace unipool {

struct RouterSettings {
  enum class Kind : uint8_t { kNorm, kSoftmax };
  Kind kind;
  int64_t experts;
  int64_t top_k;
  float c;    // of kNorm
  float eps;  // of kNorm
};

class Router {
 public:
  struct Saved {
    Tensor logits;  // [tokens, experts]; absent for kSoftmax, whose backward needs the scores only
    Tensor scores;  // [tokens, experts]
    Tensor ids;     // int32 [tokens, k]
    Tensor gates;   // [tokens, k]: the chosen scores as they are
  };

  // `prefix` as in "model.layers.3.mlp.router".
  Router(ParameterList& parameters, const std::string& prefix, int64_t hidden,
         const RouterSettings& settings, float init_std);

  // Adds the choices to `counts`, int64 [experts].
  void Forward(Context& ctx, Tensor x, Tensor counts, Saved* saved) const;
  // Overwrites dx, given the gradient of the gates [tokens, k] and `column` [experts], the gradient
  // that balance losses give to the scores of every token.
  void Backward(Context& ctx, Tensor dgates, Tensor column, Tensor x, const Saved& saved,
                Tensor dx) const;

 private:
  RouterSettings settings_;
  Linear weight_;
  const Parameter* scale_;  // null for kSoftmax
};

}  // namespace unipool
