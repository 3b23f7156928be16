#include "model/parameter.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "runtime/rng.h"
#include "runtime/status.h"

namespace unipool {
namespace {

Tensor ShapedView(float* data, const std::vector<int64_t>& shape, Device device) {
  CHECK_LE(shape.size(), static_cast<size_t>(Tensor::kMaxRank));
  Tensor tensor = Tensor::Of(data, {}, device);
  tensor.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.dims);
  return tensor;
}

}  // namespace

int64_t Parameter::numel() const {
  int64_t product = 1;
  for (const int64_t dim : shape) product *= dim;
  return product;
}

Parameter* ParameterList::Add(Parameter parameter) {
  CHECK(flat_[0].values.absent()) << "added after Allocate";
  parameters_.push_back(std::move(parameter));
  return &parameters_.back();
}

absl::Status ParameterList::Allocate(Device device, int shards) {
  RETURN_IF_ERROR(AllocateKind(ParameterKind::kReplicated, device, shards));
  RETURN_IF_ERROR(AllocateKind(ParameterKind::kExpert, device, 1));
  return AllocateKind(ParameterKind::kState, device, 1);
}

absl::Status ParameterList::AllocateKind(ParameterKind kind, Device device, int shards) {
  std::vector<Parameter*> ordered;
  for (Parameter& parameter : parameters_) {
    if (parameter.kind == kind) ordered.push_back(&parameter);
  }
  std::stable_partition(ordered.begin(), ordered.end(),
                        [](const Parameter* p) { return p->decay; });
  int64_t elements = 0;
  Flat& flat = flat_[Index(kind)];
  for (const Parameter* parameter : ordered) {
    elements += parameter->numel();
    if (parameter->decay) flat.decayed = elements;
  }
  const int64_t padded = (elements + shards - 1) / shards * shards;
  const int64_t bytes = padded * static_cast<int64_t>(sizeof(float));
  ASSIGN_OR_RETURN(flat.values_buffer, Buffer::Allocate(device, bytes));
  flat.values = Tensor::Of(static_cast<float*>(flat.values_buffer.data()), {padded}, device);
  const bool trained = kind != ParameterKind::kState;
  if (trained) {
    ASSIGN_OR_RETURN(flat.grads_buffer, Buffer::Allocate(device, bytes));
    flat.grads = Tensor::Of(static_cast<float*>(flat.grads_buffer.data()), {padded}, device);
  }
  int64_t offset = 0;
  for (Parameter* parameter : ordered) {
    parameter->value = ShapedView(flat.values.as<float>() + offset, parameter->shape, device);
    if (trained) {
      parameter->grad = ShapedView(flat.grads.as<float>() + offset, parameter->shape, device);
    }
    offset += parameter->numel();
  }
  return absl::OkStatus();
}

void ParameterList::Initialize(uint64_t seed) {
  for (Parameter& parameter : parameters_) {
    if (parameter.kind == ParameterKind::kState) {
      std::fill_n(parameter.value.as<float>(), parameter.numel(), 0.0f);
    } else if (parameter.init_std == 0) {
      std::fill_n(parameter.value.as<float>(), parameter.numel(), 1.0f);
    } else {
      Rng(seed, StreamId(parameter.name)).FillNormal(parameter.init_std, parameter.value);
    }
  }
}

}  // namespace unipool
