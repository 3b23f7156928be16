#include "model/parameter.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "runtime/copy.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
#include "runtime/rng.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kAlignment = 8;  // elements: 16 bytes of bfloat16

int64_t RoundUp(int64_t elements, int64_t multiple) {
  return (elements + multiple - 1) / multiple * multiple;
}

// The parameter's part of a flat tensor.
Tensor ShapedView(const Tensor& flat, int64_t offset, const std::vector<int64_t>& shape) {
  CHECK_LE(shape.size(), static_cast<size_t>(Tensor::kMaxRank));
  Tensor tensor = flat;
  tensor.data = static_cast<char*>(flat.data) + offset * static_cast<int64_t>(SizeOf(flat.dtype));
  tensor.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.dims);
  return tensor;
}

absl::StatusOr<Tensor> AllocateFlat(Device device, DType dtype, int64_t elements, Buffer* buffer) {
  ASSIGN_OR_RETURN(*buffer,
                   Buffer::Allocate(device, elements * static_cast<int64_t>(SizeOf(dtype))));
  return Tensor::View(buffer->data(), dtype, {elements}, device);
}

// The first element of each parameter, and the end of the last parameter.
std::vector<int64_t> LayOut(const std::vector<Parameter*>& ordered) {
  std::vector<int64_t> offsets;
  int64_t end = 0;
  for (size_t i = 0; i < ordered.size(); ++i) {
    const Parameter& parameter = *ordered[i];
    CHECK(!parameter.stacked || (i > 0 && ordered[i - 1]->decay == parameter.decay))
        << parameter.name << " is stacked but follows no parameter of the same kind and decay";
    offsets.push_back(parameter.stacked ? end : RoundUp(end, kAlignment));
    end = offsets.back() + parameter.numel();
  }
  offsets.push_back(end);
  return offsets;
}

// Writes the initial value to `value`, which is in host memory.
void InitialValue(const Parameter& parameter, uint64_t seed, const Tensor& value) {
  if (parameter.kind == ParameterKind::kState) {
    std::fill_n(value.as<float>(), parameter.numel(), 0.0f);
  } else if (parameter.init_std == 0) {
    std::fill_n(value.as<float>(), parameter.numel(), 1.0f);
  } else {
    Rng(seed, StreamId(parameter.name)).FillNormal(parameter.init_std, value);
  }
}

}  // namespace

int64_t Parameter::numel() const {
  int64_t product = 1;
  for (const int64_t dim : shape) product *= dim;
  return product;
}

Parameter* ParameterList::Add(Parameter parameter) {
  CHECK(flat_[0].values.absent()) << "parameter " << parameter.name
                                  << " is added after Allocate; add it before";
  parameters_.push_back(std::move(parameter));
  return &parameters_.back();
}

absl::Status ParameterList::Allocate(Device device, int shards, DType weight_type) {
  RETURN_IF_ERROR(AllocateKind(ParameterKind::kReplicated, device, shards, weight_type));
  RETURN_IF_ERROR(AllocateKind(ParameterKind::kExpert, device, 1, weight_type));
  return AllocateKind(ParameterKind::kState, device, 1, DType::kFloat32);
}

absl::Status ParameterList::AllocateKind(ParameterKind kind, Device device, int shards,
                                         DType weight_type) {
  std::vector<Parameter*> ordered;
  for (Parameter& parameter : parameters_) {
    if (parameter.kind == kind) ordered.push_back(&parameter);
  }
  const auto plain = std::stable_partition(ordered.begin(), ordered.end(),
                                           [](const Parameter* p) { return p->decay; });
  const std::vector<int64_t> offsets = LayOut(ordered);
  const int64_t elements = RoundUp(offsets.back(), kAlignment * shards);
  Flat& flat = flat_[Index(kind)];
  flat.decayed = plain == ordered.end() ? elements : offsets[plain - ordered.begin()];
  ASSIGN_OR_RETURN(flat.values,
                   AllocateFlat(device, DType::kFloat32, elements, &flat.values_buffer));
  if (kind != ParameterKind::kState) {
    ASSIGN_OR_RETURN(flat.grads,
                     AllocateFlat(device, DType::kFloat32, elements, &flat.grads_buffer));
  }
  const bool rounds = weight_type == DType::kBFloat16;
  if (rounds) {
    ASSIGN_OR_RETURN(flat.rounded,
                     AllocateFlat(device, weight_type, elements, &flat.rounded_buffer));
  }
  for (size_t i = 0; i < ordered.size(); ++i) {
    Parameter& parameter = *ordered[i];
    parameter.value = ShapedView(flat.values, offsets[i], parameter.shape);
    if (!flat.grads.absent()) parameter.grad = ShapedView(flat.grads, offsets[i], parameter.shape);
    parameter.weight = rounds && !parameter.precise
                           ? ShapedView(flat.rounded, offsets[i], parameter.shape)
                           : parameter.value;
  }
  return absl::OkStatus();
}

void ParameterList::Initialize(uint64_t seed) {
  std::vector<float> storage;
  for (Parameter& parameter : parameters_) {
    if (parameter.value.device == Device{}) {
      InitialValue(parameter, seed, parameter.value);
      continue;
    }
    storage.resize(std::max(storage.size(), static_cast<size_t>(parameter.numel())));
    InitialValue(parameter, seed, Tensor::Of(storage.data(), {parameter.numel()}));
    WriteTensor(storage.data(), parameter.value);
  }
}

void ParameterList::RoundWeights(Context& ctx) {
  RoundWeights(ctx, ParameterKind::kReplicated);
  RoundWeights(ctx, ParameterKind::kExpert);
}

void ParameterList::RoundWeights(Context& ctx, ParameterKind kind) {
  const Tensor rounded_values = rounded(kind);
  if (!rounded_values.absent()) Compute(ctx, Cast{.x = values(kind), .y = rounded_values});
}

}  // namespace unipool
