// A layer's router: chooses experts of the layer's pool for each token. Every layer has its own,
// also where all layers share one pool. It is computed in float32 whatever activations are.
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
  float c;          // of kNorm
  float eps;        // of kNorm
  float bias_rate;  // of kSigmoidBias
};

class Router {
 public:
  struct Saved {
    Tensor logits;     // [tokens, experts]; of kNorm, the others' backward needs the scores only
    Tensor scores;     // [tokens, experts]
    Tensor ids;        // int32 [tokens, k]
    Tensor gates;      // [tokens, k]: the chosen scores; of kSigmoidBias with k > 1 they sum to 1
    Tensor gate_sums;  // [tokens], where they do
  };

  // `prefix` as in "model.layers.3.mlp.router".
  Router(ParameterList& parameters, const std::string& prefix, int64_t hidden,
         const RouterSettings& settings, float init_std);

  // Takes the memory of logits and scores from the arena.
  void Allocate(Context& ctx, int64_t tokens, Saved* saved) const;
  // Logits and scores of x.
  void Score(Context& ctx, Tensor x, const Saved& saved) const;
  // Scores x and chooses. Adds the choices to `counts`, int64 [experts].
  void Forward(Context& ctx, Tensor x, Tensor counts, Saved* saved) const;
  // Overwrites dx, given the gradient of the gates [tokens, k] and `column` [experts], the gradient
  // that balance losses give to the scores of every token.
  void Backward(Context& ctx, Tensor dgates, Tensor column, Tensor x, const Saved& saved,
                Tensor dx) const;
  // After a step, given its choices over all ranks, int64 [experts]: kSigmoidBias moves its bias.
  void MoveBias(Context& ctx, Tensor counts) const;

 private:
  bool normalizes() const {
    return settings_.kind == RouterSettings::Kind::kSigmoidBias && settings_.top_k > 1;
  }
  // `saved` and `counts` say what is wanted: without ids, scores alone.
  void Route(Context& ctx, Tensor x, const Saved& saved, Tensor counts) const;

  RouterSettings settings_;
  Linear weight_;
  const Parameter* scale_;  // of kNorm, else null
  const Parameter* bias_;   // of kSigmoidBias, else null
};

}  // namespace unipool
