#include "launch/train/loaders.h"

#include <gtest/gtest.h>

#include <vector>

#include "configs/run.pb.h"

namespace unipool {
namespace {

config::Run PaperRun() {
  config::Run run;
  run.set_steps(60000);
  run.mutable_data()->set_global_batch(512);
  run.mutable_eval()->set_every_steps(1000);
  run.mutable_eval()->set_sequences(51200);
  return run;
}

// model/method.md#evaluation, model/method.md#sample-order.
TEST(SamplesWanted, AreThePapersNumbers) {
  EXPECT_EQ(SamplesWanted(PaperRun(), Split::kTrain), 30720000);
  EXPECT_EQ(SamplesWanted(PaperRun(), Split::kValidation), 3123200);
  EXPECT_EQ(SamplesWanted(PaperRun(), Split::kTest), 51200);
}

TEST(SamplesWanted, WithoutAnIntervalThereIsOneValidation) {
  config::Run run = PaperRun();
  run.mutable_eval()->set_every_steps(0);
  EXPECT_EQ(SamplesWanted(run, Split::kValidation), 51200);
}

std::vector<int64_t> Windows(config::Eval::Window window, const std::vector<int64_t>& steps) {
  config::Eval eval = PaperRun().eval();
  eval.set_window(window);
  std::vector<int64_t> windows;
  for (const int64_t step : steps) windows.push_back(ValidationWindow(eval, step));
  return windows;
}

TEST(ValidationWindow, AdvancesWithEveryValidation) {
  // The validation before training uses the first window too. The one after a last step that is no
  // multiple of the interval has its own.
  const std::vector<int64_t> steps = {0, 1000, 2000, 60000, 60500};
  EXPECT_EQ(Windows(config::Eval::ADVANCING, steps), (std::vector<int64_t>{0, 0, 1, 59, 60}));
  EXPECT_EQ(Windows(config::Eval::FIXED, steps), (std::vector<int64_t>{0, 0, 0, 0, 0}));
}

TEST(ValidationWindow, IsTheFirstWithoutAnInterval) {
  config::Eval eval;
  eval.set_every_steps(0);
  eval.set_window(config::Eval::ADVANCING);
  EXPECT_EQ(ValidationWindow(eval, 500), 0);
}

}  // namespace
}  // namespace unipool
