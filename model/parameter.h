// The one list of everything that is trained, and of the state that belongs to the weights. Modules
// add their parameters to it when they are made; Allocate then gives all values and all gradients
// flat memory, and the reducer, the optimizer, checkpoints and exports walk this list and nothing
// else.
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
  float init_std;  // Normal(0, init_std); 0 means all ones. Not read for kState: all zeros
  bool decay;      // weight decay applies

  Tensor value;  // set by Allocate
  Tensor grad;   // absent for kState

  int64_t numel() const;
};

class ParameterList {
 public:
  ParameterList() = default;
  ParameterList(const ParameterList&) = delete;
  ParameterList& operator=(const ParameterList&) = delete;

  // Before Allocate. The pointer stays valid as long as the list. Parameters of one kind and one
  // `decay` that are added one after the other lie one after the other in memory.
  Parameter* Add(Parameter parameter);

  // Gives every parameter its memory; the flat length of the replicated ones is padded with zeros
  // to a multiple of `shards`, so that it can be cut evenly.
  absl::Status Allocate(Device device, int shards);
  // Each parameter from (seed, its name): independent of ranks and of the order of Add.
  void Initialize(uint64_t seed);

  const std::deque<Parameter>& parameters() const { return parameters_; }
  // Flat, in memory order: parameters that decay first. States have no grads.
  Tensor values(ParameterKind kind) const { return flat_[Index(kind)].values; }
  Tensor grads(ParameterKind kind) const { return flat_[Index(kind)].grads; }
  // Elements at the front of the flat tensors to which weight decay applies.
  int64_t decayed(ParameterKind kind) const { return flat_[Index(kind)].decayed; }

 private:
  struct Flat {
    Buffer values_buffer;
    Buffer grads_buffer;
    Tensor values;
    Tensor grads;
    int64_t decayed = 0;
  };
  static int Index(ParameterKind kind) { return static_cast<int>(kind); }
  absl::Status AllocateKind(ParameterKind kind, Device device, int shards);

  std::deque<Parameter> parameters_;
  Flat flat_[3];
};

}  // namespace unipool
