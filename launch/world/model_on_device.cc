#include "launch/world/model_on_device.h"

#include <utility>

#include "configs/run.pb.h"
#include "launch/world/step_memory.h"
#include "model/precision.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace unipool {

absl::StatusOr<std::unique_ptr<ModelOnDevice>> ModelOnDevice::Create(const config::Run& run,
                                                                     const MemoryPlan& plan,
                                                                     const std::string& remedy,
                                                                     World& world) {
  RETURN_IF_ERROR(CheckMemory(plan, world, remedy));
  auto self = std::unique_ptr<ModelOnDevice>(new ModelOnDevice(world, plan));
  const Device device = world.device();
  self->ctx_.dtype = ActivationType(run, device.type);
  ASSIGN_OR_RETURN(self->model_,
                   Transformer::Create(run, self->parameters_, world.groups().expert(), device));
  RETURN_IF_ERROR(self->parameters_.Allocate(device, world.size(), self->ctx_.dtype));
  self->parameters_.Initialize(run.seed());
  self->saved_ = self->model_->NewSaved();
  self->stream_ = Stream::Create(device);
  self->ctx_.stream = self->stream_.get();
  return self;
}

absl::Status ModelOnDevice::ReserveActivations() {
  ASSIGN_OR_RETURN(Arena arena, ReserveArena(world_, plan_));
  arena_ = std::make_unique<Arena>(std::move(arena));
  ctx_.arena = arena_.get();
  parameters_.RoundWeights(ctx_);
  return absl::OkStatus();
}

}  // namespace unipool
