#include "model/footprint.h"

#include <gtest/gtest.h>

#include <limits>

#include "configs/run.pb.h"

namespace unipool {
namespace {

config::Run PaperRun(int64_t layers, int64_t hidden, int64_t heads, int64_t experts) {
  config::Run run;
  config::Model& model = *run.mutable_model();
  model.set_vocab(51200);
  model.set_layers(layers);
  model.set_hidden(hidden);
  model.set_heads(heads);
  model.set_kv_heads(4);
  model.set_head_dim(hidden / heads);
  model.set_ffn(4 * hidden);
  run.mutable_pool()->set_experts(experts);
  run.mutable_pool()->set_layers_per_pool(layers);
  return run;
}

// model/method.md#parameter-count.
TEST(CountParameters, EqualsThePapersTotals) {
  EXPECT_EQ(CountParameters(PaperRun(12, 768, 12, 96)).total(), 777'898'764);
  EXPECT_EQ(CountParameters(PaperRun(24, 1024, 16, 192)).total(), 2'588'460'056);
  EXPECT_EQ(CountParameters(PaperRun(36, 1024, 16, 288)).total(), 3'833'799'716);
  EXPECT_EQ(CountParameters(PaperRun(48, 1024, 16, 384)).total(), 5'081'498'672);
  EXPECT_EQ(CountParameters(PaperRun(24, 1536, 16, 192)).total(), 5'741'815'320);
}

TEST(CountParameters, CountsVanillaGroupedAndDense) {
  config::Run run = PaperRun(12, 768, 12, 8);
  run.mutable_pool()->set_layers_per_pool(1);
  run.mutable_pool()->set_router(config::Pool::SOFTMAX);
  EXPECT_EQ(CountParameters(run).total(), 777'087'744);
  run = PaperRun(12, 768, 12, 16);
  run.mutable_pool()->set_layers_per_pool(2);
  EXPECT_EQ(CountParameters(run).total(), 777'161'484);
  run.mutable_model()->set_ffn_kind(config::Model::DENSE);
  EXPECT_EQ(CountParameters(run).total(), 182'471'424);
  EXPECT_EQ(ActiveParameters(run), 182'471'424);
}

TEST(RankParameters, AddUpToOneCopyOfTheExpertsAndOneDensePartPerRank) {
  config::Run run = PaperRun(12, 768, 12, 8);
  run.mutable_pool()->set_layers_per_pool(1);
  const ParameterCounts counts = CountParameters(run);
  for (const int ranks : {1, 3, 5, 16}) {
    int64_t sum = 0;
    for (int rank = 0; rank < ranks; ++rank) sum += RankParameters(run, ranks, rank);
    EXPECT_EQ(sum, ranks * counts.dense() + counts.ffn) << ranks << " ranks";
  }
}

TEST(PlanMemory, TakesSixteenBytesPerParameterOnOneRank) {
  const config::Run run = PaperRun(12, 768, 12, 96);
  const MemoryPlan plan = PlanMemory(run, 1, 0);
  EXPECT_EQ(plan.values + plan.gradients + plan.moments, 16 * CountParameters(run).total());
}

// Ten sequences in micro-batches of at most eight are split into five and five.
TEST(PlanMemory, SplitsTheBatchAsTheLoaderDoes) {
  config::Run run = PaperRun(12, 768, 12, 96);
  run.mutable_data()->set_global_batch(10);
  run.mutable_data()->set_micro_batch(8);
  const int64_t uneven = PlanMemory(run, 1, 0).activations;
  run.mutable_data()->set_micro_batch(5);
  EXPECT_EQ(PlanMemory(run, 1, 0).activations, uneven);
  run.mutable_data()->set_micro_batch(10);
  EXPECT_GT(PlanMemory(run, 1, 0).activations, uneven);
}

TEST(Footprint, SaturatesForSizesThatNobodyHas) {
  constexpr int64_t kHuge = 2147483647, kMax = std::numeric_limits<int64_t>::max();
  config::Run run = PaperRun(kHuge, kHuge - 1, 2, kHuge);
  run.mutable_model()->set_sequence(kHuge);
  run.mutable_data()->set_global_batch(1 << 24);
  for (const int64_t layers_per_pool : {int64_t{1}, kHuge}) {
    run.mutable_pool()->set_layers_per_pool(layers_per_pool);
    const ParameterCounts counts = CountParameters(run);
    EXPECT_EQ(counts.ffn, kMax);
    EXPECT_EQ(counts.total(), kMax);
    EXPECT_GE(counts.dense(), 0);
    EXPECT_EQ(ActiveParameters(run), kMax);
    for (const int rank : {0, 6}) {
      const MemoryPlan plan = PlanMemory(run, 7, rank);
      EXPECT_EQ(plan.total(), kMax);
      for (const int64_t bytes : {plan.values, plan.weights, plan.gradients, plan.moments,
                                  plan.activations, plan.snapshot, RankParameters(run, 7, rank)}) {
        EXPECT_GE(bytes, 0);
      }
    }
    EXPECT_GT(TrainingFlopsPerToken(run), 1e18);
  }
}

}  // namespace
}  // namespace unipool
