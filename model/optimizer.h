// AdamW over the parameter list (model/method.md#optimizer). The moments of replicated parameters
// are sharded over all ranks (ZeRO-1): each rank updates its part of the flat values, and
// GradientReducer::GatherDense gathers the parts. The moments of an expert are on the ranks that
// own the expert.
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

// Both moments of the elements [begin, end) of a parameter, in its flat order, that are on this
// rank.
struct MomentSlice {
  const Parameter* parameter;
  int64_t begin;
  int64_t end;
  Tensor m;  // [end - begin]
  Tensor v;
};

class Optimizer {
 public:
  // `parameters` is Allocated; `parameters` and `reducer` are borrowed and outlive this.
  // RESOURCE_EXHAUSTED if the moments cannot be allocated.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(ParameterList& parameters,
                                                           const GradientReducer& reducer,
                                                           const AdamWSettings& settings);

  // Updates this rank's values and their weights from its reduced gradients times `grad_scale`, and
  // sets all gradients to zero. `step` counts from 1.
  void Step(Context& ctx, int64_t step, double lr, double grad_scale);

  // This rank's moments, in memory order. The ranks of one copy of the experts together hold every
  // element of the dense and the expert parameters once.
  std::vector<MomentSlice> Moments() const;

 private:
  // The part of one kind of parameters that this rank updates.
  struct Part {
    Tensor values;
    Tensor grads;
    Tensor rounded;  // absent if weights are the values
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
