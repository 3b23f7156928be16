// The one list of everything that is trained, and of the state that belongs to the weights. Modules
// add their parameters to it when they are made; Allocate then gives all values and all gradients
// flat memory, and the reducer, the optimizer, checkpoints and exports walk this list and nothing
// else.
//
// Values are float32 and what is trained and saved. Ops read `weight`: the value itself, or where a
// run is in bfloat16 its rounded copy. The copy follows by itself in the optimizer's update;
// whoever else writes values calls RoundWeights.
//
// Law of gradients: parameter gradients add, activation gradients overwrite. Whoever starts a step
// finds every parameter gradient zero. A pool's gradients are complete only after the backward of
// the lowest layer that uses it.
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
  kReplicated,  // the same on every rank; gradients summed over all
  kExpert,      // on the ranks that own the expert; gradients summed over its replicas
  kState,  // the same on every rank, set by rules of its own: no gradient, no moments, no decay
};

struct Parameter {
  std::string name;  // global: the same on any number of ranks
  std::vector<int64_t> shape;
  ParameterKind kind;
  float init_std;        // Normal(0, init_std); 0 means all ones. Not read for kState: all zeros
  bool decay;            // weight decay applies
  bool precise = false;  // its weight is float32 in every run
  // Lies right behind the parameter that was added before it, of the same kind and `decay`: a part
  // of one stacked operand. The others start at multiples of 16 bytes, whatever their type.
  bool stacked = false;

  Tensor value = {};   // float32; set by Allocate, like the others
  Tensor grad = {};    // float32; absent for kState
  Tensor weight = {};  // what ops read

  int64_t numel() const;
};

class ParameterList {
 public:
  ParameterList() = default;
  ParameterList(const ParameterList&) = delete;
  ParameterList& operator=(const ParameterList&) = delete;

  // Before Allocate. The pointer stays valid as long as the list.
  Parameter* Add(Parameter parameter);

  // Gives every parameter its memory. Gaps between parameters hold zeros in values and gradients
  // and stay so; the flat length of the replicated ones can be cut evenly into `shards`, each of a
  // multiple of 16 bytes. `weight_type` is float32 or bfloat16.
  absl::Status Allocate(Device device, int shards, DType weight_type = DType::kFloat32);
  // Each parameter's value from (seed, its name): independent of ranks and of the order of Add.
  void Initialize(uint64_t seed);
  // The weights of values that others than the optimizer have written.
  void RoundWeights(Context& ctx);
  void RoundWeights(Context& ctx, ParameterKind kind);

  const std::deque<Parameter>& parameters() const { return parameters_; }
  // Flat, in memory order: parameters that decay first. States have no grads.
  Tensor values(ParameterKind kind) const { return flat_[Index(kind)].values; }
  Tensor grads(ParameterKind kind) const { return flat_[Index(kind)].grads; }
  // bfloat16, element by element that of `values`; absent where weights are the values themselves.
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
