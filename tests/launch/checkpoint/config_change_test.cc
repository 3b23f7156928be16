// Which changes of a config a run goes on with.
#include "launch/checkpoint/config_change.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

config::Run Resolved(int64_t steps, int64_t decay_steps, int64_t warmup_steps) {
  config::Run run;
  run.set_steps(steps);
  run.mutable_schedule()->set_decay_steps(decay_steps);
  run.mutable_schedule()->set_warmup_steps(warmup_steps);
  return run;
}

// The run that goes on, `wanted`, with what it takes over.
config::Run Adopted(const config::Run& saved, config::Run wanted) {
  AdoptSchedule(saved, &wanted);
  return wanted;
}

absl::Status Check(const config::Run& saved, const config::Run& run) {
  config::Manifest manifest;
  *manifest.mutable_run() = saved;
  return CheckSameRun("folder", manifest, run);
}

TEST(AdoptSchedule, KeepsTheRatesOfARunThatIsMadeLongerAgainAndAgain) {
  config::Run saved = Resolved(1000, 1000, 10);
  for (const int64_t steps : {2000, 2000, 3000}) {
    const config::Run run = Adopted(saved, Resolved(steps, steps, steps / 100));
    EXPECT_EQ(run.schedule().decay_steps(), 1000);
    EXPECT_EQ(run.schedule().warmup_steps(), 10);
    EXPECT_OK(Check(saved, run));
    saved = run;
  }
}

TEST(AdoptSchedule, LeavesWhatIsGiven) {
  const config::Run saved = Resolved(1000, 1000, 10);
  EXPECT_STATUS(Check(saved, Adopted(saved, Resolved(2000, 1500, 10))), kInvalidArgument,
                "schedule.decay_steps = 1500 (the checkpoint has 1000)");
  EXPECT_STATUS(Check(saved, Adopted(saved, Resolved(2000, 2000, 7))), kInvalidArgument,
                "schedule.warmup_steps = 7 (the checkpoint has 10)");
}

TEST(CheckSameRun, LetsFilesMove) {
  const config::Run saved = Resolved(1000, 1000, 10);
  config::Run run = saved;
  run.mutable_data()->set_prefix("elsewhere/text");
  run.mutable_data()->set_vocab_file("elsewhere/vocab.json");
  run.mutable_data()->set_merges_file("elsewhere/merges.txt");
  EXPECT_OK(Check(saved, run));
  run.set_seed(7);
  EXPECT_STATUS(Check(saved, run), kInvalidArgument, "seed = 7");
}

}  // namespace
}  // namespace unipool
