// Recomputation changes memory and time, and nothing else: the same losses, weights and statistics
// bit for bit, and the same number of exchanges.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "launch/train/trainer.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using testing::Variant;

// The state of one rank after a run.
struct Trained {
  std::vector<double> losses;  // by step: language model, pool, layer, gradient norm
  std::vector<float> weights;  // and router biases
  std::vector<int64_t> counts;
  int64_t exchanges = 0;
};

class RecomputeTest : public ::testing::TestWithParam<Variant> {
 protected:
  RecomputeTest() {
    testing::WriteTinyDataset(folder_.Path("text"));
    config::Data data;
    data.set_prefix(folder_.Path("text"));
    corpus_ = Corpus::Open(data).value();
  }

  config::Run Run() const {
    config::Run run = testing::TinyRun(GetParam(), folder_.Path("text"));
    run.set_steps(4);
    run.mutable_eval()->set_every_steps(2);
    return run;
  }

  // The results of all ranks, in their order.
  std::vector<Trained> Train(config::Run run, config::Model::Recompute recompute, int ranks) const {
    run.mutable_model()->set_recompute(recompute);
    run.mutable_profile()->set_enabled(true);
    std::vector<Trained> all(ranks);
    testing::OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto trainer = Trainer::Create(run, *corpus_, *world).value();
      Trained& mine = all[world->rank()];
      ASSERT_OK(trainer->Run([&](const StepRecord& record) {
        for (const double loss :
             {record.lm_loss, record.pool_loss, record.layer_aux_loss, record.grad_norm}) {
          mine.losses.push_back(loss);
        }
        if (record.validation) mine.losses.push_back(record.validation->loss);
        return absl::OkStatus();
      }));
      Collect(*trainer, &mine);
    });
    return all;
  }

  static void Collect(Trainer& trainer, Trained* mine) {
    for (const Parameter& parameter : trainer.parameters().parameters()) {
      const float* values = parameter.value.as<float>();
      mine->weights.insert(mine->weights.end(), values, values + parameter.numel());
    }
    const auto counts = trainer.model().statistics().step_state();  // the unrouted last
    mine->counts.assign(counts.begin(), counts.end());
    for (const Profiler::Entry& entry : trainer.profiler().Entries()) {
      if (std::string(entry.name) == "exchange.all_to_all") mine->exchanges = entry.calls;
    }
  }

  void ExpectNothingChanges(const config::Run& run, int ranks) const {
    const std::vector<Trained> kept = Train(run, config::Model::NONE, ranks);
    for (const auto recompute : {config::Model::EXPERT, config::Model::BLOCK}) {
      const std::vector<Trained> again = Train(run, recompute, ranks);
      for (int rank = 0; rank < ranks; ++rank) {
        SCOPED_TRACE(::testing::Message() << config::Model::Recompute_Name(recompute) << ", rank "
                                          << rank << " of " << ranks);
        EXPECT_EQ(again[rank].losses, kept[rank].losses);
        EXPECT_TRUE(again[rank].weights == kept[rank].weights);
        EXPECT_EQ(again[rank].counts, kept[rank].counts);
        EXPECT_EQ(again[rank].exchanges, kept[rank].exchanges);
      }
    }
  }

  testing::TempFolder folder_;
  std::unique_ptr<Corpus> corpus_;
};

TEST_P(RecomputeTest, GivesTheSameBitsAndExchangesOnAnyNumberOfRanks) {
  for (const int ranks : {1, 3}) ExpectNothingChanges(Run(), ranks);
}

TEST_P(RecomputeTest, GivesTheSameBitsWithAccumulationAndFewerLayersFlushedTogether) {
  config::Run run = Run();
  run.mutable_data()->set_micro_batch(2);
  for (const int64_t gradient_layers : {1, 2}) {
    run.mutable_pool()->set_gradient_layers(gradient_layers);
    for (const int ranks : {1, 3}) ExpectNothingChanges(run, ranks);
  }
}

// A rank without tokens recomputes nothing, but takes part in every exchange.
TEST_P(RecomputeTest, GivesTheSameBitsOnRanksWithoutATokenToo) {
  config::Run run = Run();
  run.mutable_data()->set_global_batch(2);
  run.mutable_data()->set_micro_batch(0);
  ExpectNothingChanges(run, 3);
}

TEST_P(RecomputeTest, TheFirstBadTensorIsTheSame) {
  std::vector<std::string> lines;
  for (const auto recompute : {config::Model::NONE, config::Model::EXPERT, config::Model::BLOCK}) {
    config::Run run = Run();
    run.mutable_model()->set_recompute(recompute);
    const auto world = World::Create(run).value();
    const auto trainer = Trainer::Create(run, *corpus_, *world).value();
    for (const Parameter& parameter : trainer->parameters().parameters()) {
      if (parameter.name == "model.layers.1.self_attn.o_proj.weight") {
        parameter.value.as<float>()[3] = std::nanf("");
      }
    }
    lines.emplace_back(trainer->Step().status().message());
  }
  EXPECT_NE(lines[0].find("first bad tensor"), std::string::npos) << lines[0];
  EXPECT_EQ(lines[1], lines[0]);
  EXPECT_EQ(lines[2], lines[0]);
}

INSTANTIATE_TEST_SUITE_P(Variants, RecomputeTest,
                         ::testing::Values(Variant::kDense, Variant::kVanilla, Variant::kUniPool,
                                           Variant::kUniPoolTop2, Variant::kSigmoid,
                                           Variant::kUniPoolLocal));

}  // namespace
}  // namespace unipool
