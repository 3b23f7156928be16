// A trained model for looking at: its weights, and memory for forward passes only, on any number of
// ranks. Tokens and results are the caller's, in plain memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer.h"
#include "launch/checkpoint/reader.h"
#include "launch/world/world.h"
#include "model/parameter.h"
#include "model/routing_hook.h"
#include "model/transformer.h"
#include "runtime/context.h"

namespace unipool {

// Sequences of equal length, of one rank and one pass.
struct TokenBatch {
  int64_t sequence = 0;               // tokens of each
  std::vector<int64_t> ids = {};      // of the sequences, the same on any number of ranks
  std::vector<int32_t> tokens = {};   // [ids * sequence]
  std::vector<int32_t> targets = {};  // the tokens that follow
};

// What a pass says of each token of a batch.
struct TokenAnswers {
  std::vector<float> losses;       // nats
  std::vector<int32_t> likeliest;  // the likeliest next token; empty where nobody asked
};

// A hook that is told which sequences it is going to see.
class BatchHook : public RoutingHook {
 public:
  virtual void OnBatch(const TokenBatch& batch) = 0;
};

class InferenceModel {
 public:
  // The weights are those of a run that has not begun. `run` is resolved and checked; a pass has at
  // most `batch_tokens` tokens of a rank. `world` is borrowed and outlives the model. Collective.
  static absl::StatusOr<std::unique_ptr<InferenceModel>> Create(const config::Run& run,
                                                                int64_t batch_tokens, World& world);

  // Takes the weights of a checkpoint. Collective.
  absl::Status Load(const Checkpoint& checkpoint);

  // A forward pass. Every rank makes every call, also with an empty batch; lengths may differ.
  // `hook` may be null.
  void Run(const TokenBatch& batch, bool wants_likeliest, BatchHook* hook, TokenAnswers* answers);

  ParameterList& parameters() { return parameters_; }
  // Of the run's text; null where the run tells of none.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  World& world() { return world_; }
  Stream& stream() { return *stream_; }
  const config::Run& run() const { return *run_; }
  int64_t batch_tokens() const { return batch_tokens_; }

 private:
  InferenceModel(const config::Run& run, int64_t batch_tokens, World& world);

  World& world_;
  std::unique_ptr<config::Run> run_;
  int64_t batch_tokens_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ParameterList parameters_;
  std::unique_ptr<Transformer> model_;
  Transformer::Saved saved_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Arena> arena_;
  Context ctx_;
};

}  // namespace unipool
