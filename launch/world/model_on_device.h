// A run's model on the device of this rank: its weights, its stream, the activation memory and the
// context that its ops compute with. Training and inference both use it.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/config/messages.h"
#include "launch/world/world.h"
#include "model/footprint.h"
#include "model/parameter.h"
#include "model/transformer.h"
#include "runtime/arena.h"
#include "runtime/context.h"
#include "runtime/stream.h"

namespace unipool {

class ModelOnDevice {
 public:
  // Creates the model with the initial weights of `run.seed`. INVALID_ARGUMENT if `plan` exceeds
  // this rank's share of the device's memory; `remedy` then completes the error ("use a smaller
  // data.micro_batch"). `run` is resolved and checked; `world` must outlive the model. The model
  // cannot compute before ReserveActivations.
  static absl::StatusOr<std::unique_ptr<ModelOnDevice>> Create(const config::Run& run,
                                                               const MemoryPlan& plan,
                                                               const std::string& remedy,
                                                               World& world);

  // Reserves the arena for the planned activations, then rounds the initial weights to the type
  // that ops read. Call it once, after all other lasting memory of the device is allocated: on a
  // GPU the arena takes a part of what is free.
  absl::Status ReserveActivations();

  Transformer& model() { return *model_; }
  ParameterList& parameters() { return parameters_; }
  // What a forward pass keeps for the backward pass.
  Transformer::Saved& saved() { return saved_; }
  Stream& stream() { return *stream_; }
  Arena& arena() { return *arena_; }
  Context& context() { return ctx_; }

 private:
  ModelOnDevice(const World& world, const MemoryPlan& plan) : world_(world), plan_(plan) {}

  const World& world_;
  const MemoryPlan plan_;
  ParameterList parameters_;
  std::unique_ptr<Transformer> model_;
  Transformer::Saved saved_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Arena> arena_;
  Context ctx_;
};

}  // namespace unipool
