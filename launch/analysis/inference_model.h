// A trained model for forward passes only, on any number of ranks: evaluation, scores, probes. The
// caller's tokens and results are in host memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "data/blend.h"
#include "data/tokenizer.h"
#include "launch/checkpoint/reader.h"
#include "launch/world/model_on_device.h"
#include "launch/world/world.h"
#include "model/parameter.h"
#include "model/routing_hook.h"
#include "runtime/stream.h"

namespace unipool {

// Sequences of equal length that one rank passes through the model at once.
struct TokenBatch {
  int64_t sequence = 0;               // tokens per sequence
  std::vector<int64_t> ids = {};      // of the sequences; independent of the number of ranks
  std::vector<int32_t> tokens = {};   // [ids * sequence]
  std::vector<int32_t> targets = {};  // the tokens that follow
};

// The results of a forward pass for each token of a batch.
struct TokenAnswers {
  std::vector<float> losses;       // nats
  std::vector<int32_t> likeliest;  // the likeliest next token; empty unless requested
};

// A routing hook that also gets the batch before its forward pass.
class BatchHook : public RoutingHook {
 public:
  virtual void OnBatch(const TokenBatch& batch) = 0;
};

// What a pass computes for each token.
enum class TokenOutputs { kLosses, kLossesAndLikeliest };

class InferenceModel {
 public:
  // Creates the model with its initial weights. `run` is resolved and checked; a pass has at most
  // `batch_tokens` tokens of a rank, or one sequence if that is more. `world` is borrowed and must
  // outlive the model. Collective.
  static absl::StatusOr<std::unique_ptr<InferenceModel>> Create(const config::Run& run,
                                                                int64_t batch_tokens, World& world);

  // Replaces the weights by those of a checkpoint. Collective.
  absl::Status Load(const Checkpoint& checkpoint);

  // Runs a forward pass. Collective: a rank without sequences passes an empty batch. The lengths of
  // the ranks' sequences may differ. `hook` may be null.
  void Run(const TokenBatch& batch, TokenOutputs outputs, BatchHook* hook, TokenAnswers* answers);

  ParameterList& parameters() { return on_device_->parameters(); }
  // Null if the run states none.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  World& world() { return world_; }
  Stream& stream() { return on_device_->stream(); }
  const config::Run& run() const { return *run_; }
  int64_t batch_tokens() const { return batch_tokens_; }
  // Version of the order of the data that the loaded checkpoint was trained on (data/blend.h).
  int order_version() const { return order_version_; }

 private:
  InferenceModel(const config::Run& run, int64_t batch_tokens, World& world);

  World& world_;
  std::unique_ptr<config::Run> run_;
  int64_t batch_tokens_;
  int order_version_ = kOrderVersion;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ModelOnDevice> on_device_;
};

}  // namespace unipool
