// The list of everything that is trained, and of the state that belongs to the weights. Modules add
// their parameters when they are constructed; Allocate then places all values and all gradients in
// flat memory. The reducer, the optimizer, checkpoints and exports read this list and nothing else.
//
// Values are float32; they are trained and saved. Ops read `weight`, which is the value itself, or
// its rounded copy if the run uses bfloat16. The optimizer's update writes the copy too; any other
// code that writes values calls RoundWeights.
//
// Parameter gradients add, activation gradients overwrite. Every parameter gradient is zero at the
// start of a step. The gradients of a pool are complete only after the backward of the lowest layer
// that uses it.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/buffer.h"
#include "runtime/context.h"
#include "runtime/tensor.h"

namespace unipool {

enum class ParameterKind : uint8_t {
  kReplicated,  // the same on every rank; gradients are summed over all ranks
  kExpert,      // on the ranks that own the expert; gradients are summed over its replicas
  kState,       // the same on every rank, set by other rules: no gradient, no moments, no decay
};

struct Parameter {
  std::string name;  // global: the same on any number of ranks
  std::vector<int64_t> shape;
  ParameterKind kind;
  float init_std;        // Normal(0, init_std); 0 means all ones. Ignored for kState: all zeros
  bool decay;            // weight decay applies
  bool precise = false;  // the weight is float32 in every run
  // The parameter directly follows the one that was added before it, which has the same kind and
  // `decay`, as a part of one stacked operand. Other parameters start at multiples of 16 bytes.
  bool stacked = false;

  // Set by Allocate.
  Tensor value = {};   // float32
  Tensor grad = {};    // float32; absent for kState
  Tensor weight = {};  // float32 or bfloat16: read by ops

  int64_t numel() const;
};

class ParameterList {
 public:
  ParameterList() = default;
  ParameterList(const ParameterList&) = delete;
  ParameterList& operator=(const ParameterList&) = delete;

  // Adds a parameter; only before Allocate. The pointer is valid as long as the list.
  Parameter* Add(Parameter parameter);

  // Allocates the memory of every parameter. Gaps between parameters are zero in values and
  // gradients and stay zero. The flat size of the replicated parameters divides by `shards`, and
  // each shard is a multiple of 16 bytes. `weight_type` is float32 or bfloat16. RESOURCE_EXHAUSTED
  // if memory cannot be allocated.
  absl::Status Allocate(Device device, int shards, DType weight_type = DType::kFloat32);
  // Sets each value from (seed, name), so that it depends neither on ranks nor on the order of Add.
  void Initialize(uint64_t seed);
  // Updates the rounded weights after code other than the optimizer has written values.
  void RoundWeights(Context& ctx);
  void RoundWeights(Context& ctx, ParameterKind kind);

  const std::deque<Parameter>& parameters() const { return parameters_; }
  // All values and gradients of a kind, flat, in memory order: parameters with weight decay first.
  // kState has no gradients.
  Tensor values(ParameterKind kind) const { return flat_[Index(kind)].values; }
  Tensor grads(ParameterKind kind) const { return flat_[Index(kind)].grads; }
  // The bfloat16 copy of `values`; absent if the weights are the values themselves.
  Tensor rounded(ParameterKind kind) const { return flat_[Index(kind)].rounded; }
  // Elements at the front of the flat tensors to which weight decay applies.
  int64_t decayed(ParameterKind kind) const { return flat_[Index(kind)].decayed; }

 private:
  struct Flat {
    Buffer values_buffer;
    Buffer grads_buffer;
    Buffer rounded_buffer;
    Tensor values;
    Tensor grads;
    Tensor rounded;
    int64_t decayed = 0;
  };
  static int Index(ParameterKind kind) { return static_cast<int>(kind); }
  absl::Status AllocateKind(ParameterKind kind, Device device, int shards, DType weight_type);

  std::deque<Parameter> parameters_;
  Flat flat_[3];
};

}  // namespace unipool
