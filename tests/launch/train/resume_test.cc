// A run that was stopped and resumed equals one that was never stopped: bit for bit on the same
// number of ranks, and within rounding on any other.
#include "launch/train/resume.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/run_folder.h"
#include "launch/checkpoint/saver.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using testing::TempFolder;
using testing::Variant;

constexpr Variant kVariants[] = {Variant::kDense, Variant::kVanilla, Variant::kUniPool,
                                 Variant::kUniPoolTop2, Variant::kSigmoid};

using Weights = std::map<std::string, std::vector<float>>;

// The results of a run that must not depend on whether it was stopped.
struct Outcome {
  std::vector<StepRecord> records;
  Weights weights;
};

class ResumeTest : public ::testing::Test {
 protected:
  ResumeTest() : prefix_(folder_.Path("text")) {
    testing::WriteTinyDataset(prefix_);
    corpus_ = Corpus::Open(Run(Variant::kDense, 1, "").data()).value();
  }

  config::Run Run(Variant variant, int64_t steps, const std::string& place) const {
    config::Run run = testing::TinyRun(variant, prefix_);
    run.mutable_schedule()->set_decay_steps(14);
    run.set_steps(steps);
    run.set_run_dir(folder_.Path(place));
    return run;
  }

  // Resumes from the run folder, trains to the last step, and saves.
  Outcome Train(const config::Run& run, int ranks) const {
    Outcome outcome;
    std::mutex mutex;
    testing::OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      config::Run resolved = run;
      const auto trainer = ResumeTrainer(&resolved, {}, *corpus_, *world);
      ASSERT_OK(trainer.status());
      ASSERT_OK((*trainer)->Run([&](const StepRecord& record) {
        if (world->is_first()) outcome.records.push_back(record);
        return absl::OkStatus();
      }));
      ASSERT_OK(
          SaveCheckpoint(RunFolder(run.run_dir()).checkpoints(), (*trainer)->state(), *world));
      const std::lock_guard lock(mutex);
      for (const Parameter& parameter : (*trainer)->parameters().parameters()) {
        const float* values = parameter.value.as<float>();
        outcome.weights.emplace(parameter.name,
                                std::vector<float>(values, values + parameter.numel()));
      }
    });
    return outcome;
  }

  // Compares the last records of both: the same steps, and losses to `tolerance`.
  static void ExpectSameEnd(const Outcome& whole, const Outcome& resumed, double tolerance) {
    ASSERT_LT(resumed.records.size(), whole.records.size());
    const size_t skip = whole.records.size() - resumed.records.size();
    for (size_t i = 0; i < resumed.records.size(); ++i) {
      const StepRecord& a = whole.records[skip + i];
      const StepRecord& b = resumed.records[i];
      EXPECT_EQ(a.step, b.step);
      EXPECT_EQ(a.lr, b.lr);
      EXPECT_NEAR(a.lm_loss, b.lm_loss, tolerance) << "step " << a.step;
      EXPECT_NEAR(a.pool_loss, b.pool_loss, tolerance) << "step " << a.step;
      EXPECT_NEAR(a.layer_aux_loss, b.layer_aux_loss, tolerance) << "step " << a.step;
      EXPECT_NEAR(a.grad_norm, b.grad_norm, 10 * tolerance) << "step " << a.step;
    }
  }

  TempFolder folder_;
  std::string prefix_;
  std::unique_ptr<Corpus> corpus_;
};

TEST_F(ResumeTest, TheSameRanksResumeBitForBit) {
  for (const Variant variant : kVariants) {
    for (const int ranks : {1, 3}) {
      const std::string place = absl::StrCat("run-", static_cast<int>(variant), "-", ranks);
      SCOPED_TRACE(place);
      const Outcome whole = Train(Run(variant, 14, place + "-whole"), ranks);
      Train(Run(variant, 4, place), ranks);
      const Outcome resumed = Train(Run(variant, 14, place), ranks);
      EXPECT_EQ(resumed.records.size(), 10u);
      ExpectSameEnd(whole, resumed, 0);
      EXPECT_EQ(whole.weights, resumed.weights);
    }
  }
}

TEST_F(ResumeTest, AccumulationAndReplicasResumeBitForBit) {
  config::Run run = Run(Variant::kUniPool, 14, "whole");
  run.mutable_data()->set_micro_batch(2);
  run.mutable_parallel()->set_expert_parallel(2);
  const Outcome whole = Train(run, 4);
  run.set_run_dir(folder_.Path("stopped"));
  run.set_steps(4);
  Train(run, 4);
  run.set_steps(14);
  const Outcome resumed = Train(run, 4);
  ExpectSameEnd(whole, resumed, 0);
  EXPECT_EQ(whole.weights, resumed.weights);
}

TEST_F(ResumeTest, LocalStatisticsResumeBitForBitOnTheSameRanks) {
  config::Run run = Run(Variant::kUniPool, 14, "whole");
  run.mutable_pool()->set_statistics(config::Pool::LOCAL);
  run.mutable_data()->set_micro_batch(2);
  const Outcome whole = Train(run, 3);
  run.set_run_dir(folder_.Path("stopped"));
  run.set_steps(4);
  Train(run, 3);
  run.set_steps(14);
  std::filesystem::copy(folder_.Path("stopped"), folder_.Path("others"),
                        std::filesystem::copy_options::recursive);
  const Outcome resumed = Train(run, 3);
  ExpectSameEnd(whole, resumed, 0);
  EXPECT_EQ(whole.weights, resumed.weights);
  run.set_run_dir(folder_.Path("others"));
  EXPECT_EQ(Train(run, 4).records.size(), 10u);  // defined, if not the same
}

TEST_F(ResumeTest, ARunCanStopAfterItsFirstStep) {
  const Outcome whole = Train(Run(Variant::kUniPool, 6, "whole"), 2);
  Train(Run(Variant::kUniPool, 1, "stopped"), 2);
  const Outcome resumed = Train(Run(Variant::kUniPool, 6, "stopped"), 2);
  ExpectSameEnd(whole, resumed, 0);
  EXPECT_EQ(whole.weights, resumed.weights);
}

TEST_F(ResumeTest, AnyNumberOfRanksResumesFromAnyOther) {
  const Outcome whole = Train(Run(Variant::kUniPool, 14, "whole"), 1);
  for (const int writers : {1, 2, 3, 4, 7}) {
    const std::string place = absl::StrCat("saved-", writers);
    Train(Run(Variant::kUniPool, 4, place), writers);
    for (const int readers : {1, 2, 3, 4, 7}) {
      SCOPED_TRACE(absl::StrCat(place, " read by ", readers));
      const std::string copy = absl::StrCat(place, "-", readers);
      std::filesystem::copy(folder_.Path(place), folder_.Path(copy),
                            std::filesystem::copy_options::recursive);
      ExpectSameEnd(whole, Train(Run(Variant::kUniPool, 14, copy), readers), 1e-5);
    }
  }
}

}  // namespace
}  // namespace unipool
