// AdamW over the parameter list. The moments of replicated parameters are sharded over all ranks
// (ZeRO-1): each rank updates its part of the flat values, and GradientReducer::GatherDense brings
// the parts together. The moments of experts live where the experts live.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "comm/gradient_reducer.h"
#include "model/parameter.h"
#include "runtime/buffer.h"
#include "runtime/context.h"

namespace unipool {

struct AdamWSettings {
  float beta1;
  float beta2;
  float eps;
  float weight_decay;
};

// Both moments of a parameter's elements [begin, end), counted in its flat order: what this rank
// keeps of it.
struct MomentSlice {
  const Parameter* parameter;
  int64_t begin;
  int64_t end;
  Tensor m;  // [end - begin]
  Tensor v;
};

class Optimizer {
 public:
  // `parameters` is Allocated; both references are borrowed and outlive this.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(ParameterList& parameters,
                                                           const GradientReducer& reducer,
                                                           const AdamWSettings& settings);

  // Updates this rank's values and their weights from its reduced gradients times `grad_scale`, and
  // clears all gradients. Steps count from 1.
  void Step(Context& ctx, int64_t step, double lr, double grad_scale);

  // In memory order. Over the ranks of one copy of the experts, every trained element of the dense
  // and the expert parameters is there once.
  std::vector<MomentSlice> Moments() const;

 private:
  // What this rank updates of one kind of parameter.
  struct Part {
    Tensor values;
    Tensor grads;
    Tensor rounded;  // absent where weights are the values
    Tensor m;
    Tensor v;
    int64_t decayed;  // elements at the front to which weight decay applies
    Buffer moments;
  };

  Optimizer(ParameterList& parameters, const AdamWSettings& settings)
      : parameters_(parameters), settings_(settings) {}
  absl::Status AllocateMoments(Part* part);
  void AddMoments(const Part& part, ParameterKind kind, std::vector<MomentSlice>* slices) const;
  void Update(Context& ctx, const Part& part, int64_t step, double lr, double grad_scale);

  ParameterList& parameters_;
  AdamWSettings settings_;
  Part dense_;
  Part expert_;
};

}  // namespace unipool
