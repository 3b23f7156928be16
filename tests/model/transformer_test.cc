// The whole model: gradients of every parameter against finite differences, for each kind of model.
#include "model/transformer.h"

#include <glog/logging.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "comm/local_communicator.h"
#include "configs/run.pb.h"
#include "model/footprint.h"
#include "tests/support/grad_check.h"
#include "tests/support/status_matchers.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ExpectGradient;
using testing::Workbench;

constexpr int64_t kVocab = 19, kSequence = 6, kTokens = 12;

config::Run TinyRun() {
  config::Run run;
  config::Model& model = *run.mutable_model();
  model.set_vocab(kVocab);
  model.set_hidden(8);
  model.set_layers(2);
  model.set_heads(4);
  model.set_kv_heads(2);
  model.set_head_dim(4);
  model.set_ffn(12);
  model.set_sequence(kSequence);
  model.set_init_std(0.4f);
  config::Pool& pool = *run.mutable_pool();
  pool.set_experts(5);
  pool.set_layers_per_pool(2);
  pool.set_top_k(2);
  pool.set_router_c(2.0);
  pool.set_pool_loss(0.3);
  pool.set_layer_loss(0.2);
  run.mutable_data()->set_global_batch(kTokens / kSequence);
  return run;
}

// A model on one rank with two sequences of fixed tokens and invented statistics of a previous
// step.
class Tiny {
 public:
  explicit Tiny(const config::Run& run)
      : ranks_(CreateLocalCommunicators(1, absl::Seconds(10))),
        model_(Transformer::Create(run, parameters_, *ranks_[0]).value()),
        saved_(model_->NewSaved()) {
    CHECK(parameters_.Allocate(Device{}, 1).ok());
    parameters_.Initialize(5);
    std::vector<int32_t> ids(kTokens), next(kTokens);
    for (int i = 0; i < kTokens; ++i) {
      ids[i] = i * 5 % kVocab;
      next[i] = (i * 3 + 1) % kVocab;
    }
    tokens_ = bench_.Ints({kTokens}, ids);
    targets_ = bench_.Ints({kTokens}, next);
    for (int layer = 0; layer < model_->statistics().num_layers(); ++layer) {
      const Tensor counts = model_->statistics().counts(layer);
      for (int64_t e = 0; e < counts.numel(); ++e) counts.as<int64_t>()[e] = 1 + e * (layer + 1);
    }
    model_->statistics().FinishMicroBatch(bench_.ctx(), kTokens);
    model_->statistics().FinishStep(bench_.ctx(), *ranks_[0]);
  }

  double Loss() {
    LossSums sums = LossSums::Create(Device{}).value();
    model_->StartStep(bench_.ctx(), kTokens);
    model_->TrainMicroBatch(bench_.ctx(), {.tokens = tokens_, .targets = targets_}, saved_, sums);
    const LossSums::Values losses = sums.Read(*bench_.ctx().stream);
    return losses.cross_entropy + losses.pool_balance + losses.layer_balance;
  }

  // Checks each parameter's gradient of the loss.
  void CheckGradients() {
    CheckGradientsOf([](const Parameter&) { return true; });
  }
  void CheckGradientsOf(const std::function<bool(const Parameter&)>& is_checked) {
    Loss();
    std::vector<Tensor> grads;  // copies, since each further Loss adds to the gradients
    for (const Parameter& parameter : parameters_.parameters()) {
      const bool trained = parameter.kind != ParameterKind::kState && is_checked(parameter);
      grads.push_back(trained ? bench_.Copy(parameter.grad) : Tensor{});
    }
    for (size_t i = 0; i < grads.size(); ++i) {
      const Parameter& parameter = parameters_.parameters()[i];
      if (grads[i].absent()) continue;
      SCOPED_TRACE(parameter.name);
      ExpectGradient(parameter.value, grads[i], [this] { return Loss(); },
                     {.step = 3e-4, .tolerance = 4e-3, .max_elements = 12});
    }
  }

  // The loss of each of the first `tokens` tokens, as sequences of `sequence`.
  std::vector<float> Losses(int64_t tokens, int64_t sequence, RoutingHook* hook = nullptr) {
    const Tensor losses = bench_.Poisoned({tokens});
    model_->Evaluate(bench_.ctx(),
                     {.tokens = tokens_.Rows(0, tokens),
                      .targets = targets_.Rows(0, tokens),
                      .sequence = sequence,
                      .results = {.losses = losses},
                      .hook = hook},
                     saved_);
    return testing::ToVector(losses);
  }

  Workbench& bench() { return bench_; }
  ParameterList& parameters() { return parameters_; }

 private:
  Workbench bench_;
  std::vector<std::unique_ptr<Communicator>> ranks_;
  ParameterList parameters_;
  std::unique_ptr<Transformer> model_;
  Transformer::Saved saved_;
  Tensor tokens_;
  Tensor targets_;
};

TEST(Transformer, UniPoolGradientsMatchFiniteDifferences) { Tiny(TinyRun()).CheckGradients(); }

// The first loss creates the statistics that the later losses use.
TEST(Transformer, GradientsWithLocalStatisticsMatchFiniteDifferences) {
  config::Run run = TinyRun();
  run.mutable_pool()->set_statistics(config::Pool::LOCAL);
  Tiny tiny(run);
  tiny.Loss();
  for (const auto kind : {ParameterKind::kReplicated, ParameterKind::kExpert}) {
    const Tensor grads = tiny.parameters().grads(kind);
    std::fill_n(grads.as<float>(), grads.numel(), 0.0f);
  }
  tiny.CheckGradients();
}

// Every expert is chosen, so half of the choices have no positive score.
TEST(Transformer, GradientsWithUnroutedChoicesMatchFiniteDifferences) {
  for (const int64_t layers_per_pool : {1, 2}) {
    config::Run run = TinyRun();
    run.mutable_pool()->set_top_k(5);
    run.mutable_pool()->set_layers_per_pool(layers_per_pool);
    Tiny(run).CheckGradients();
  }
}

void ZeroRouters(Tiny& tiny, const char* name) {
  for (const Parameter& parameter : tiny.parameters().parameters()) {
    if (parameter.name.find(name) == std::string::npos) continue;
    std::fill_n(parameter.value.as<float>(), parameter.numel(), 0.0f);
  }
}

// A layer without a single row; the step has gradients all the same.
TEST(Transformer, GradientsMatchFiniteDifferencesIfALayerLosesAllTokens) {
  Tiny tiny(TinyRun());
  ZeroRouters(tiny, "layers.0.mlp.router.weight");
  tiny.CheckGradientsOf([](const Parameter& parameter) {
    return parameter.name != "model.layers.0.mlp.router.weight";  // NormRouter has none at 0
  });
}

TEST(Transformer, ExpertsWithoutRowsHaveNoGradient) {
  Tiny tiny(TinyRun());
  ZeroRouters(tiny, "mlp.router.weight");
  EXPECT_TRUE(std::isfinite(tiny.Loss()));
  for (const float gradient : testing::ToVector(tiny.parameters().grads(ParameterKind::kExpert))) {
    EXPECT_EQ(gradient, 0);
  }
}

TEST(Transformer, VanillaSoftmaxGradientsMatchFiniteDifferences) {
  config::Run run = TinyRun();
  run.mutable_pool()->set_layers_per_pool(1);
  run.mutable_pool()->set_router(config::Pool::SOFTMAX);
  Tiny(run).CheckGradients();
}

TEST(Transformer, SigmoidGradientsMatchFiniteDifferences) {
  for (const int top_k : {1, 3}) {
    config::Run run = TinyRun();
    run.mutable_pool()->set_router(config::Pool::SIGMOID_BIAS);
    run.mutable_pool()->set_top_k(top_k);
    Tiny(run).CheckGradients();
  }
}

TEST(Transformer, DenseGradientsMatchFiniteDifferences) {
  config::Run run = TinyRun();
  run.mutable_model()->set_ffn_kind(config::Model::DENSE);
  Tiny(run).CheckGradients();
}

TEST(Transformer, GradientsDoNotDependOnGradientLayers) {
  config::Run run = TinyRun();
  Tiny together(run);
  run.mutable_pool()->set_gradient_layers(1);
  Tiny one_by_one(run);
  EXPECT_EQ(together.Loss(), one_by_one.Loss());
  const Tensor a = together.parameters().grads(ParameterKind::kExpert);
  const Tensor b = one_by_one.parameters().grads(ParameterKind::kExpert);
  EXPECT_EQ(testing::ToVector(a), testing::ToVector(b));
}

// Records its calls. If `forced`, it sends all tokens of layer 1 to experts 2 and 4.
struct RecordingHook : RoutingHook {
  void OnRouting(Context&, int layer, const Router::Saved& routing) override {
    layers.push_back(layer);
    tokens += routing.ids.dim(0);
    if (layer != 1 || !forced) return;
    for (int64_t t = 0; t < routing.ids.dim(0); ++t) {
      for (int j : {0, 1}) routing.ids.as<int32_t>()[2 * t + j] = 2 + 2 * j;
      for (int j : {0, 1}) routing.gates.as<float>()[2 * t + j] = gate;
    }
  }
  bool forced = false;
  float gate = 0;
  std::vector<int> layers;
  int64_t tokens = 0;
};

TEST(Transformer, AHookSeesEachLayerAndChangesNothingUnlessItWrites) {
  Tiny tiny(TinyRun());
  const std::vector<float> losses = tiny.Losses(kTokens, kSequence);
  RecordingHook hook;
  EXPECT_EQ(tiny.Losses(kTokens, kSequence, &hook), losses);
  EXPECT_EQ(hook.layers, (std::vector<int>{0, 1}));
  EXPECT_EQ(hook.tokens, 2 * kTokens);
}

TEST(Transformer, ALayerUsesTheRoutesThatAHookWrites) {
  Tiny tiny(TinyRun());
  RecordingHook hook;
  hook.forced = true;
  const std::vector<float> silent = tiny.Losses(kTokens, kSequence, &hook);
  hook.gate = 0.5f;
  EXPECT_NE(tiny.Losses(kTokens, kSequence, &hook), silent);
  // A layer with zero gates adds nothing, whichever experts it chooses.
  for (const Parameter& parameter : tiny.parameters().parameters()) {
    if (parameter.name == "model.layers.1.mlp.router.weight") {
      std::fill_n(parameter.value.as<float>(), parameter.numel(), 0.0f);
    }
  }
  EXPECT_EQ(tiny.Losses(kTokens, kSequence), silent);
}

TEST(Transformer, AShorterSequenceHasTheLossesOfALongerOnesBeginning) {
  Tiny tiny(TinyRun());
  const std::vector<float> whole = tiny.Losses(kSequence, kSequence);
  const std::vector<float> half = tiny.Losses(kSequence / 2, kSequence / 2);
  for (int64_t t = 0; t < kSequence / 2; ++t) EXPECT_NEAR(half[t], whole[t], 1e-6) << t;
}

TEST(Transformer, ParametersMatchTheirCount) {
  for (const bool dense : {false, true}) {
    config::Run run = TinyRun();
    if (dense) run.mutable_model()->set_ffn_kind(config::Model::DENSE);
    Tiny tiny(run);
    int64_t total = 0;
    for (const Parameter& parameter : tiny.parameters().parameters()) total += parameter.numel();
    EXPECT_EQ(total, CountParameters(run).total());
  }
}

constexpr config::Model::Recompute kRecomputes[] = {config::Model::NONE, config::Model::EXPERT,
                                                    config::Model::BLOCK};

// Returns the arena's peak in a step beyond what is in use before it; *planned is the planned
// value.
double PeakBytes(const config::Run& run, double* planned) {
  Tiny tiny(run);
  const int64_t before = tiny.bench().arena().used_bytes();
  EXPECT_EQ(tiny.bench().arena().peak_bytes(), before);  // so that the peak is that of the step
  tiny.Loss();
  *planned = static_cast<double>(PlanMemory(run, 1, 0).activations);
  return static_cast<double>(tiny.bench().arena().peak_bytes() - before);
}

// With so many experts every token has two positive scores. The plan is for this case.
config::Run RoutedRun() {
  config::Run run = TinyRun();
  run.mutable_pool()->set_experts(12);
  return run;
}

TEST(Transformer, ActivationMemoryMatchesThePlan) {
  double planned = 0;
  for (const config::Model::Recompute recompute : kRecomputes) {
    SCOPED_TRACE(config::Model::Recompute_Name(recompute));
    config::Run run = RoutedRun();
    run.mutable_model()->set_recompute(recompute);
    for (const int64_t gradient_layers : {0, 1}) {
      run.mutable_pool()->set_gradient_layers(gradient_layers);
      // Rounding of tensors to 64 bytes is visible in a tiny model.
      EXPECT_NEAR(PeakBytes(run, &planned) / planned, 1.05, 0.1);
    }
    run.mutable_model()->set_ffn_kind(config::Model::DENSE);
    EXPECT_NEAR(PeakBytes(run, &planned) / planned, 1.05, 0.1);
  }
}

TEST(Transformer, UnroutedChoicesTakeLessMemoryThanPlanned) {
  config::Run run = TinyRun();
  run.mutable_pool()->set_top_k(5);  // about half of them have no positive score
  double planned = 0;
  EXPECT_LT(PeakBytes(run, &planned) / planned, 0.85);
}

// Runs two micro-batches, so that the second starts with the memory contents of the first.
std::vector<float> GradientsAndLosses(const config::Run& run) {
  Tiny tiny(run);
  std::vector<float> all = {static_cast<float>(tiny.Loss()), static_cast<float>(tiny.Loss())};
  for (const auto kind : {ParameterKind::kReplicated, ParameterKind::kExpert}) {
    const std::vector<float> grads = testing::ToVector(tiny.parameters().grads(kind));
    all.insert(all.end(), grads.begin(), grads.end());
  }
  return all;
}

TEST(Transformer, GradientsDoNotDependOnRecomputation) {
  for (const config::Pool::Router router :
       {config::Pool::NORM, config::Pool::SOFTMAX, config::Pool::SIGMOID_BIAS}) {
    for (const int64_t layers_per_pool : {1, 2, 4}) {
      config::Run run = TinyRun();
      run.mutable_model()->set_layers(4);
      run.mutable_pool()->set_router(router);
      run.mutable_pool()->set_layers_per_pool(layers_per_pool);
      run.mutable_pool()->set_gradient_layers(layers_per_pool == 4 ? 3 : 0);
      const std::vector<float> kept = GradientsAndLosses(run);
      for (const auto recompute : {config::Model::EXPERT, config::Model::BLOCK}) {
        run.mutable_model()->set_recompute(recompute);
        EXPECT_EQ(GradientsAndLosses(run), kept) << router << " " << layers_per_pool;
      }
    }
  }
}

// With many layers, the memory that recomputation saves dominates the step.
TEST(Transformer, EachRecomputeModeTakesLessMemory) {
  for (const bool dense : {false, true}) {
    config::Run run = RoutedRun();
    run.mutable_model()->set_layers(8);
    run.mutable_pool()->set_gradient_layers(1);
    if (dense) run.mutable_model()->set_ffn_kind(config::Model::DENSE);
    double planned = 0, before = std::numeric_limits<double>::infinity();
    for (const config::Model::Recompute recompute : kRecomputes) {
      run.mutable_model()->set_recompute(recompute);
      const double peak = PeakBytes(run, &planned);
      EXPECT_NEAR(peak / planned, 1.05, 0.1) << recompute;
      EXPECT_LT(peak, 0.85 * before) << recompute;
      before = peak;
    }
  }
}

}  // namespace
}  // namespace unipool
