#include "launch/train/recovery.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>

#include "configs/run.pb.h"
#include "launch/checkpoint/saver.h"
#include "launch/train/trainer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

// A trainer after three steps and a checkpoint of them, whose next step has a loss of NaN.
class RecoveryTest : public ::testing::Test {
 protected:
  void Start(config::Divergence::Action action) {
    testing::WriteTinyDataset(folder_.Path("text"));
    config::Run run = testing::TinyRun(testing::Variant::kUniPool, folder_.Path("text"));
    run.mutable_divergence()->set_action(action);
    corpus_ = Corpus::Open(run.data()).value();
    world_ = World::Create(run).value();
    trainer_ = Trainer::Create(run, *corpus_, *world_).value();
    for (int i = 0; i < 3; ++i) ASSERT_OK(trainer_->Step());
    ASSERT_OK(SaveCheckpoint(folder_.Path("saved"), trainer_->state(), *world_));
    for (const Parameter& parameter : trainer_->parameters().parameters()) {
      if (parameter.name == "model.norm.weight") parameter.value.as<float>()[0] = std::nanf("");
    }
  }

  void Restore() { ASSERT_OK(trainer_->Restore(OpenCheckpoint(folder_.Path("saved")).value())); }

  testing::TempFolder folder_;
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<World> world_;
  std::unique_ptr<Trainer> trainer_;
};

TEST_F(RecoveryTest, ARewindIsCountedAndSkipsTheDataOfTheBadStep) {
  Start(config::Divergence::REWIND);
  EXPECT_STATUS(trainer_->Step().status(), kAborted, "diverged at step 4: loss nan");
  EXPECT_EQ(trainer_->bad_step(), 4);
  EXPECT_EQ(trainer_->step(), 3);
  Restore();
  EXPECT_EQ(trainer_->rewinds(), 1);
  EXPECT_EQ(trainer_->state().rewound_steps, 1);
  const StepRecord record = trainer_->Step().value();
  EXPECT_EQ(record.step, 4);
  EXPECT_EQ(record.rewinds, 1);
  EXPECT_TRUE(std::isfinite(record.grad_norm));
}

TEST_F(RecoveryTest, ABadValidationRewindsToBeforeItsStep) {
  Start(config::Divergence::REWIND);
  EXPECT_STATUS(trainer_->Validate().status(), kAborted,
                "diverged at step 3: the validation loss is nan");
  EXPECT_EQ(trainer_->bad_step(), 3);
}

TEST_F(RecoveryTest, ABadValidationEndsARunThatSkipsUpdates) {
  Start(config::Divergence::SKIP_UPDATE);
  EXPECT_STATUS(trainer_->Validate().status(), kOutOfRange,
                "diverged at step 3: the validation loss is nan");
}

TEST_F(RecoveryTest, ARestoreWithoutARewindSkipsNothing) {
  Start(config::Divergence::STOP);
  EXPECT_STATUS(trainer_->Step().status(), kOutOfRange,
                "first bad tensor: weight model.norm.weight, element 0");
  Restore();
  EXPECT_EQ(trainer_->rewinds(), 0);
  EXPECT_EQ(trainer_->state().rewound_steps, 0);
}

}  // namespace
}  // namespace unipool
