#include "tests/support/tiny_run.h"

#include <glog/logging.h>

#include <vector>

#include "configs/run.pb.h"
#include "data/indexed_dataset.h"
#include "launch/config/run_config.h"
#include "runtime/rng.h"

namespace unipool::testing {
namespace {

constexpr int kDocuments = 60;
constexpr int kEndOfDocument = 256;

}  // namespace

// Each byte is mostly a function of the previous one, so a few training steps reduce the loss
// visibly.
void WriteTinyDataset(const std::string& prefix) {
  auto writer = IndexedDatasetWriter::Create(prefix, 257);
  CHECK(writer.ok()) << writer.status();
  const Rng rng(99, StreamId("tiny dataset"));
  uint64_t draw = 0;
  for (int d = 0; d < kDocuments; ++d) {
    std::vector<int32_t> tokens;
    int32_t last = 'a' + d % 26;
    for (int i = 0; i < 150 + d; ++i) {
      const bool surprise = rng.Uniform(draw++) < 0.2;
      last = surprise ? 'a' + static_cast<int32_t>(rng.Uniform(draw++) * 26)
                      : 'a' + (last * 7 + 3) % 26;
      tokens.push_back(last);
    }
    tokens.push_back(kEndOfDocument);
    CHECK((*writer)->AddDocument(tokens).ok());
  }
  CHECK((*writer)->Finish().ok());
}

config::Run TinyRun(Variant variant, const std::string& prefix) {
  config::Run run;
  run.set_steps(10);
  run.mutable_parallel()->set_device(config::Parallel::CPU);
  config::Model& model = *run.mutable_model();
  model.set_vocab(257);
  model.set_hidden(16);
  model.set_layers(3);
  model.set_heads(4);
  model.set_kv_heads(2);
  model.set_ffn(24);
  model.set_sequence(16);
  model.set_init_std(0.05f);
  config::Pool& pool = *run.mutable_pool();
  pool.set_experts(7);
  pool.set_router_c(2.0);
  pool.set_pool_loss(variant == Variant::kSigmoid ? 0 : 0.01);
  if (variant == Variant::kDense) model.set_ffn_kind(config::Model::DENSE);
  if (variant == Variant::kUniPoolTop2) pool.set_top_k(2);
  if (variant == Variant::kVanilla) {
    pool.set_layers_per_pool(1);
    pool.set_router(config::Pool::SOFTMAX);
    pool.set_pool_loss(0);
    pool.set_layer_loss(0.01);
  }
  if (variant == Variant::kSigmoid) {  // one pool per layer and two experts per token
    pool.set_layers_per_pool(1);
    pool.set_router(config::Pool::SIGMOID_BIAS);
    pool.set_top_k(2);
    pool.set_bias_rate(0.01);
  }
  if (variant == Variant::kUniPoolLocal) {
    pool.set_statistics(config::Pool::LOCAL);
    pool.set_layer_loss(0.01);
    run.mutable_data()->set_micro_batch(4);
  }
  run.mutable_data()->set_prefix(prefix);
  run.mutable_data()->set_split("90,5,5");
  run.mutable_data()->set_global_batch(12);
  run.mutable_schedule()->set_lr(1e-2);
  run.mutable_schedule()->set_min_lr(1e-3);
  run.mutable_schedule()->set_warmup_steps(2);
  run.mutable_eval()->set_sequences(8);
  const absl::Status status = CheckRunConfig(run, "TinyRun");
  CHECK(status.ok()) << status;
  ResolveDefaults(&run);
  return run;
}

}  // namespace unipool::testing
