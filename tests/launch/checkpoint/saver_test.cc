// Saves during training hold the state of their step; old checkpoints are removed as configured; a
// failed save is repeated and damages nothing.
#include "launch/checkpoint/saver.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "configs/checkpoint.pb.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/reader.h"
#include "launch/train/trainer.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using testing::TempFolder;

class CheckpointSaverTest : public ::testing::Test {
 protected:
  CheckpointSaverTest() {
    testing::WriteTinyDataset(folder_.Path("text"));
    run_ = testing::TinyRun(testing::Variant::kUniPool, folder_.Path("text"));
    run_.mutable_checkpoint()->set_every_steps(2);
    corpus_ = Corpus::Open(run_.data()).value();
  }

  // Trains `steps` steps on three ranks with saves into `place`; `after` is called after each one.
  SaveTotals Train(const std::string& place, int steps,
                   const std::function<void(int64_t step)>& after = {}) const {
    SaveTotals totals;
    testing::OnRanksOwned(3, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run_, std::move(comm)).value();
      const auto trainer = Trainer::Create(run_, *corpus_, *world).value();
      const auto saver =
          CheckpointSaver::Create(folder_.Path(place), run_.checkpoint(), *world).value();
      for (int i = 0; i < steps; ++i) {
        ASSERT_OK(trainer->Step());
        saver->AfterStep(trainer->state());
        world->groups().world().Barrier();
        if (world->is_first() && after != nullptr) after(trainer->step());
        world->groups().world().Barrier();
      }
      saver->Settle();
      if (world->is_first()) totals = saver->totals();
    });
    return totals;
  }

  std::vector<int64_t> Steps(const std::string& place) const {
    return FinishedSteps(folder_.Path(place)).value();
  }

  std::vector<float> Weights(const std::string& folder) const {
    return OpenCheckpoint(folder_.Path(folder))
        .value()
        .ReadFlat("lm_head.weight", config::Manifest::WEIGHT)
        .value();
  }

  TempFolder folder_;
  config::Run run_;
  std::unique_ptr<Corpus> corpus_;
};

TEST_F(CheckpointSaverTest, ACopyHoldsTheStateOfItsStep) {
  run_.mutable_checkpoint()->set_keep_last(0);
  EXPECT_EQ(Train("beside", 7).saves, 3);
  run_.mutable_checkpoint()->set_asynchronous(false);
  EXPECT_EQ(Train("between", 7).saves, 3);
  EXPECT_THAT(Steps("beside"), ElementsAre(2, 4, 6));
  for (const std::string step : {"/step_00000002", "/step_00000004", "/step_00000006"}) {
    EXPECT_OK(OpenCheckpoint(folder_.Path("beside" + step))->Verify());
    EXPECT_EQ(Weights("beside" + step), Weights("between" + step));
  }
  EXPECT_NE(Weights("beside/step_00000004"), Weights("beside/step_00000006"));
}

TEST_F(CheckpointSaverTest, TheNewestAndEveryKthStay) {
  run_.mutable_checkpoint()->set_keep_last(2);
  run_.mutable_checkpoint()->set_keep_every(6);
  EXPECT_EQ(Train("run", 17).saves, 8);
  EXPECT_THAT(Steps("run"), ElementsAre(6, 12, 14, 16));
  EXPECT_EQ(folder_.ReadAll("run/latest"), "step_00000016\n");
}

TEST_F(CheckpointSaverTest, ACheckpointThatCannotBeReadDoesNotCountAsKept) {
  run_.mutable_checkpoint()->set_keep_last(2);
  EXPECT_EQ(Train("run", 3).saves, 1);
  std::filesystem::create_directory(folder_.Path("run/step_00000003"));
  ASSERT_OK(RemoveOld(folder_.Path("run"), /*newest=*/3, /*keep_last=*/1, /*keep_every=*/0));
  EXPECT_THAT(Steps("run"), ElementsAre(2, 3));
  EXPECT_EQ(Train("run", 7).saves, 3);
  EXPECT_THAT(Steps("run"), ElementsAre(4, 6));
}

TEST_F(CheckpointSaverTest, TimesOfSavesAreCountedApart) {
  const SaveTotals totals = Train("run", 6);
  EXPECT_GT(totals.stall_seconds, 0);
  EXPECT_GT(totals.between_seconds, 0);
  EXPECT_GT(totals.verify_seconds, 0);
  EXPECT_LT(totals.verify_seconds, totals.write_seconds);
  EXPECT_EQ(totals.final_seconds, 0);
  run_.mutable_checkpoint()->set_every_steps(100);
  EXPECT_EQ(Train("never", 3).between_seconds, 0);
}

TEST_F(CheckpointSaverTest, AFailedSaveIsTriedAgainAndHarmsNothing) {
  run_.mutable_checkpoint()->set_every_steps(4);
  run_.mutable_checkpoint()->set_keep_last(1);
  run_.mutable_checkpoint()->set_asynchronous(false);  // so that the disk is full for whole saves
  std::optional<testing::FileSizeLimit> full_disk;
  const SaveTotals totals = Train("run", 12, [&](int64_t step) {
    if (step == 7) full_disk.emplace(5000);
    if (step == 10) {
      EXPECT_THAT(Steps("run"), ElementsAre(4));
      full_disk.reset();
    }
  });
  EXPECT_EQ(totals.failures, 2);  // steps 8 and 9
  EXPECT_EQ(totals.saves, 3);     // steps 4, 11 and 12
  EXPECT_THAT(Steps("run"), ElementsAre(12));
  EXPECT_OK(OpenCheckpoint(folder_.Path("run"))->Verify());
}

TEST_F(CheckpointSaverTest, OneSaveBesideTrainingMakesUpForAFailedOne) {
  run_.mutable_checkpoint()->set_every_steps(6);
  run_.mutable_checkpoint()->set_keep_last(0);
  run_.mutable_checkpoint()->set_asynchronous(true);
  std::optional<testing::FileSizeLimit> full_disk;
  const SaveTotals totals = Train("run", 14, [&](int64_t step) {
    if (step == 5) full_disk.emplace(5000);
    if (step == 8) full_disk.reset();
    absl::SleepFor(absl::Milliseconds(100));  // so that each step carries the save a phase further
  });
  EXPECT_EQ(totals.failures, 1);  // step 6, which is known at step 8
  EXPECT_THAT(Steps("run"), ElementsAre(9, 12));
}

TEST_F(CheckpointSaverTest, WhatACrashLeftIsSwept) {
  folder_.Write("run/step_00000009.tmp/model-00000.safetensors", "half");
  folder_.Write("run/mine.tmp/notes", "stays");
  Train("run", 1);
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("run/step_00000009.tmp")));
  EXPECT_EQ(folder_.ReadAll("run/mine.tmp/notes"), "stays");
}

}  // namespace
}  // namespace unipool
