// The router of a layer: chooses experts of the layer's pool for each token. Every layer has its
// own router, also if all layers share one pool. It computes in float32, whatever the type of the
// activations.
#pragma once

#include <cstdint>
#include <string>

#include "model/linear.h"
#include "runtime/context.h"

namespace unipool {

struct RouterSettings {
  enum class Kind : uint8_t { kNorm, kSoftmax, kSigmoidBias };
  Kind kind;
  int64_t experts;
  int64_t top_k;
  float c;          // kNorm only: scale of the scores (model/method.md#router-constant)
  float eps;        // kNorm only: added to the norm
  float bias_rate;  // kSigmoidBias only: step of the bias
};

class Router {
 public:
  struct Saved {
    Tensor logits;     // [tokens, experts]; kNorm only: the other kinds need the scores alone
    Tensor scores;     // [tokens, experts]
    Tensor ids;        // int32 [tokens, k]
    Tensor gates;      // [tokens, k]: the chosen scores; of kSigmoidBias with k > 1 they sum to 1
    Tensor gate_sums;  // [tokens]: sums of the chosen scores; only if the gates are normalized
  };

  // `prefix` is a name such as "model.layers.3.mlp.router".
  Router(ParameterList& parameters, const std::string& prefix, int64_t hidden,
         const RouterSettings& settings, float init_std);

  // Allocates logits and scores from the arena.
  void Allocate(Context& ctx, int64_t tokens, Saved* saved) const;
  // Computes logits and scores of x [tokens, hidden]. Chooses and counts nothing.
  void Score(Context& ctx, Tensor x, const Saved& saved) const;
  // Scores x [tokens, hidden] and chooses experts. Adds the choices to `counts`, int64 [experts].
  void Forward(Context& ctx, Tensor x, Tensor counts, Saved* saved) const;

  struct BackwardArgs {
    Tensor dgates;          // [tokens, k]
    Tensor score_gradient;  // [experts]: the balance losses' gradient, the same for every token
    Tensor x;               // [tokens, hidden]
    Tensor dx;              // out [tokens, hidden]
  };
  void Backward(Context& ctx, const BackwardArgs& args, const Saved& saved) const;
  // After a step: moves the bias of kSigmoidBias, given the choices of all ranks, int64 [experts].
  // Does nothing for the other kinds.
  void MoveBias(Context& ctx, Tensor counts) const;

 private:
  bool normalizes() const {
    return settings_.kind == RouterSettings::Kind::kSigmoidBias && settings_.top_k > 1;
  }
  // Computes the outputs that are present in `saved` and `counts`; without ids, the scores alone.
  void Route(Context& ctx, Tensor x, const Saved& saved, Tensor counts) const;

  RouterSettings settings_;
  Linear weight_;
  const Parameter* scale_;  // kNorm only, else null
  const Parameter* bias_;   // kSigmoidBias only, else null
};

}  // namespace unipool
