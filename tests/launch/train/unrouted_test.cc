// Runs whose routers lose tokens: layer 0 gives every expert a score of 0 for every token, and in
// the other layers some of a token's three choices have one. Lost choices are neither sent nor
// computed. Results do not depend on ranks, chunks and recomputation, as without them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/saver.h"
#include "launch/train/trainer.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using testing::Variant;

constexpr double kTolerance = 1e-5;

class UnroutedTest : public ::testing::Test {
 protected:
  UnroutedTest() {
    testing::WriteTinyDataset(folder_.Path("text"));
    config::Data data;
    data.set_prefix(folder_.Path("text"));
    corpus_ = Corpus::Open(data).value();
  }

  config::Run Run() const {
    config::Run run = testing::TinyRun(Variant::kUniPool, folder_.Path("text"));
    run.set_steps(6);
    run.mutable_pool()->set_top_k(3);
    return run;
  }

  // A router of zeros has zero gradient, so it stays as it is.
  static void LoseTokens(Trainer& trainer, absl::string_view routers) {
    for (const Parameter& parameter : trainer.parameters().parameters()) {
      if (!absl::StrContains(parameter.name, routers)) continue;
      std::fill_n(parameter.value.as<float>(), parameter.numel(), 0.0f);
    }
  }

  // The losses of every step, then the validation loss.
  std::vector<double> Train(const config::Run& run, int ranks,
                            absl::string_view routers = "layers.0.mlp.router.weight") const {
    std::vector<double> losses;
    testing::OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto trainer = Trainer::Create(run, *corpus_, *world).value();
      LoseTokens(*trainer, routers);
      while (!trainer->finished() && trainer->step() < run.steps()) {
        const StepRecord record = trainer->Step().value();
        EXPECT_GE(record.unrouted_share, 1.0 / 3);
        if (!world->is_first()) continue;
        losses.insert(losses.end(), {record.lm_loss, record.pool_loss, record.grad_norm});
      }
      const double validation = trainer->Validate().value()->loss;
      if (world->is_first()) losses.push_back(validation);
    });
    return losses;
  }

  static void ExpectNear(const std::vector<double>& a, const std::vector<double>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], kTolerance) << i;
  }

  testing::TempFolder folder_;
  std::unique_ptr<Corpus> corpus_;
};

TEST_F(UnroutedTest, AnyNumberOfRanksAndMicroBatchesGivesTheSameLosses) {
  config::Run run = Run();
  const std::vector<double> one = Train(run, 1);
  EXPECT_LT(one.back(), one.front() - 0.3);
  for (const int ranks : {2, 3, 7}) ExpectNear(Train(run, ranks), one);
  run.mutable_data()->set_micro_batch(2);
  ExpectNear(Train(run, 1), one);
  ExpectNear(Train(run, 4), one);
}

TEST_F(UnroutedTest, ExpertGroupsGiveTheSameLosses) {
  config::Run run = Run();
  const std::vector<double> one = Train(run, 1);
  run.mutable_parallel()->set_expert_parallel(2);
  ExpectNear(Train(run, 4), one);
  run.mutable_parallel()->set_expert_parallel(1);
  ExpectNear(Train(run, 3), one);
}

TEST_F(UnroutedTest, OtherRoutersAndPoolsGiveTheSameLossesOnAnyNumberOfRanks) {
  config::Run run = Run();
  run.mutable_pool()->set_layers_per_pool(1);
  ExpectNear(Train(run, 3), Train(run, 1));
  run.mutable_pool()->set_top_k(7);  // every choice of a token, also those without a score
  ExpectNear(Train(run, 4), Train(run, 1));
}

TEST_F(UnroutedTest, ChunksAndRecomputationDoNotChangeTheBits) {
  for (const int ranks : {1, 3}) {
    config::Run run = Run();
    run.mutable_parallel()->set_exchange_chunks(1);
    const std::vector<double> expected = Train(run, ranks);
    for (const int chunks : {2, 100}) {
      run.mutable_parallel()->set_exchange_chunks(chunks);
      for (const auto recompute :
           {config::Model::NONE, config::Model::EXPERT, config::Model::BLOCK}) {
        run.mutable_model()->set_recompute(recompute);
        EXPECT_EQ(Train(run, ranks), expected) << ranks << " ranks, " << chunks << " chunks";
      }
    }
    run.mutable_pool()->set_gradient_layers(1);
    EXPECT_EQ(Train(run, ranks), expected) << ranks << " ranks";
  }
}

// Nothing is exchanged. Only embedding, attention and head are trained.
TEST_F(UnroutedTest, AllTokensMayBeLost) {
  const std::vector<double> one = Train(Run(), 1, "mlp.router.weight");
  EXPECT_LT(one.back(), one.front() - 0.3);
  for (const int ranks : {2, 4}) ExpectNear(Train(Run(), ranks, "mlp.router.weight"), one);
}

TEST_F(UnroutedTest, LoadsLeaveThemOutAndSharesDoNot) {
  const config::Run run = Run();
  const auto world = World::Create(run).value();
  const auto trainer = Trainer::Create(run, *corpus_, *world).value();
  LoseTokens(*trainer, "layers.0.mlp.router.weight");
  ASSERT_OK(trainer->Step());
  const LoadStatistics& statistics = trainer->model().statistics();
  const int64_t tokens = trainer->tokens_per_step();
  EXPECT_EQ(statistics.previous(0)[2], tokens);
  EXPECT_EQ(statistics.previous_unrouted_choices(0)[2], tokens);
  double shares[7];
  statistics.LayerShares(0, shares);
  EXPECT_DOUBLE_EQ(shares[2], 1.0 / 3);
  int64_t choices = 0;
  for (int layer = 0; layer < 3; ++layer) {
    for (int e = 0; e < 7; ++e) {
      EXPECT_GE(statistics.previous_load(layer, e), 0);
      choices += statistics.previous_load(layer, e);
    }
  }
  EXPECT_LT(choices, 2 * 3 * tokens);  // fewer than all of layers 1 and 2
  EXPECT_GT(choices, 3 * tokens);
}

TEST_F(UnroutedTest, ACheckpointHoldsThem) {
  const config::Run run = Run();
  const auto world = World::Create(run).value();
  const auto trainer = Trainer::Create(run, *corpus_, *world).value();
  LoseTokens(*trainer, "layers.0.mlp.router.weight");
  ASSERT_OK(trainer->Step());
  ASSERT_OK(SaveCheckpoint(folder_.Path("saved"), trainer->state(), *world).status());
  const auto resumed = Trainer::Create(run, *corpus_, *world).value();
  ASSERT_OK(resumed->Restore(OpenCheckpoint(folder_.Path("saved/step_00000001")).value()));
  const LoadStatistics &before = trainer->model().statistics(),
                       &after = resumed->model().statistics();
  EXPECT_EQ(after.step_unrouted_choices(), before.step_unrouted_choices());
  EXPECT_EQ(after.LayerImbalance(), before.LayerImbalance());
}

// A check for NaN, which a run makes when it diverges, sees no row that does not exist.
TEST_F(UnroutedTest, AStepThatDivergesNamesTheFirstBadTensor) {
  const config::Run run = Run();
  const auto world = World::Create(run).value();
  const auto trainer = Trainer::Create(run, *corpus_, *world).value();
  LoseTokens(*trainer, "layers.0.mlp.router.weight");
  ASSERT_OK(trainer->Step());
  for (const Parameter& parameter : trainer->parameters().parameters()) {
    if (parameter.name == "model.norm.weight") parameter.value.as<float>()[0] = NAN;
  }
  EXPECT_STATUS(trainer->Step(), kOutOfRange, "weight model.norm.weight, element 0");
}

}  // namespace
}  // namespace unipool
