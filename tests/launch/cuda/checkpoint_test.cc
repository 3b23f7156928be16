// Moves checkpoints from one device to another, and runs inference on a GPU.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "launch/analysis/inference_model.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/saver.h"
#include "tests/launch/cuda/gpu_run.h"
#include "tests/support/gpu.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using testing::ExpectSameLosses;
using testing::GpuRun;
using testing::Outcome;
using testing::Variant;

class GpuCheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPU(); }

  // Trains up to step `steps` of 9, from the checkpoint `from` unless that is "", and saves to
  // `to`.
  Outcome Train(config::Run run, int64_t steps, const std::string& from,
                const std::string& to) const {
    Outcome outcome;
    run.set_steps(steps);
    testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto trainer = Trainer::Create(run, tiny_.corpus(), *world).value();
      if (!from.empty()) {
        ASSERT_OK(trainer->Restore(OpenCheckpoint(tiny_.Path(from)).value()));
      }
      ASSERT_OK(trainer->Run([&](const StepRecord& record) {
        outcome.records.push_back(record);
        return absl::OkStatus();
      }));
      outcome.weights = testing::ReadWeights(trainer->parameters());
      ASSERT_OK(SaveCheckpoint(tiny_.Path(to), trainer->state(), *world));
    });
    return outcome;
  }

  config::Run Settings(Variant variant) const {
    config::Run run = tiny_.Settings(variant, 9);
    run.mutable_schedule()->set_decay_steps(9);
    return run;
  }

  const GpuRun tiny_;
};

TEST_F(GpuCheckpointTest, GoFromCpuToGpuAndBack) {
  const config::Run on_gpu = Settings(Variant::kUniPool), on_cpu = tiny_.OnCpu(on_gpu);
  const Outcome expected = Train(on_cpu, 9, "", "whole");
  Train(on_cpu, 3, "", "cpu");
  const Outcome moved = Train(on_gpu, 6, "cpu", "gpu");
  const Outcome back = Train(on_cpu, 6, "gpu", "back");
  EXPECT_EQ(moved.weights, back.weights);
  ExpectSameLosses(Train(on_cpu, 9, "back", "end"), expected, 1e-4);
}

TEST_F(GpuCheckpointTest, AResumedRunIsTheOneThatWasNeverStopped) {
  for (const auto precision : {config::Model::FP32, config::Model::BF16}) {
    config::Run run = Settings(Variant::kSigmoid);
    run.mutable_eval()->set_sequences(1);
    run.mutable_model()->set_precision(precision);
    const std::string name = config::Model::Precision_Name(precision);
    const Outcome whole = Train(run, 4, "", name + "-whole");
    Train(run, 2, "", name + "-half");
    const Outcome resumed = Train(run, 4, name + "-half", name + "-end");
    EXPECT_EQ(resumed.weights, whole.weights);
    EXPECT_EQ(resumed.records.back().lm_loss, whole.records.back().lm_loss);
  }
}

TEST_F(GpuCheckpointTest, AModelAnswersOnAGpuAsOnTheCpu) {
  const config::Run run = Settings(Variant::kUniPoolTop2);
  Train(run, 3, "", "trained");
  TokenBatch batch{.sequence = 8, .ids = {0, 1}};
  for (int i = 0; i < 16; ++i) {
    batch.tokens.push_back('a' + i);
    batch.targets.push_back('b' + i);
  }
  const auto answer = [&](const config::Run& settings) {
    TokenAnswers answers;
    testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(settings, std::move(comm)).value();
      const auto model = InferenceModel::Create(settings, 64, *world).value();
      ASSERT_OK(model->Load(OpenCheckpoint(tiny_.Path("trained")).value()));
      model->Run(batch, TokenOutputs::kLossesAndLikeliest, nullptr, &answers);
    });
    return answers;
  };
  const TokenAnswers here = answer(tiny_.OnCpu(run)), there = answer(run);
  EXPECT_EQ(there.likeliest, here.likeliest);
  ASSERT_EQ(there.losses.size(), 16u);
  for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(there.losses[i], here.losses[i], 1e-4) << i;
}

}  // namespace
}  // namespace unipool
