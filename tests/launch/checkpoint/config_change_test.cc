// Which changes of a config a run may resume with.
#include "launch/checkpoint/config_change.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "configs/checkpoint.pb.h"
#include "launch/config/config_fields.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

config::Run Resolved(int64_t steps, int64_t decay_steps, int64_t warmup_steps) {
  config::Run run;
  run.set_steps(steps);
  run.mutable_schedule()->set_decay_steps(decay_steps);
  run.mutable_schedule()->set_warmup_steps(warmup_steps);
  return run;
}

// `wanted` with the schedule that it takes over from `saved`.
config::Run Adopted(const config::Run& saved, config::Run wanted) {
  AdoptSchedule(saved, {}, &wanted);
  return wanted;
}

absl::Status Check(const config::Run& saved, const config::Run& run) {
  config::Manifest manifest;
  *manifest.mutable_run() = saved;
  return CheckSameRun("folder", manifest, run, {});
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

TEST(ScheduleNote, SaysWhatALongerOrShorterRunDoes) {
  const config::Run saved = Resolved(1000, 1000, 10);
  const auto note = [&saved](int64_t steps) {
    const config::Run given = Resolved(steps, steps, steps / 100);
    return ScheduleNote(given, Adopted(saved, given));
  };
  EXPECT_EQ(
      note(2000),
      "schedule.decay_steps stays 1000 as in the checkpoint; with steps = 2000 the steps after "
      "step 1000 use schedule.min_lr, unless --change schedule.decay_steps=2000 is given");
  EXPECT_EQ(note(500),
            "schedule.decay_steps stays 1000 as in the checkpoint; with steps = 500 the run ends "
            "before the learning rate reaches schedule.min_lr");
  EXPECT_EQ(note(1000), "");
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

const std::set<std::string> kFree = {"run_dir",
                                     "steps",
                                     "model.recompute",
                                     "model.precision",
                                     "pool.gradient_layers",
                                     "data.prefix",
                                     "data.micro_batch",
                                     "data.skip_steps",
                                     "data.cache_folder",
                                     "data.vocab_file",
                                     "data.merges_file"};
const std::set<std::string> kFreeMessages = {"parallel", "eval", "checkpoint", "divergence",
                                             "profile"};

// Another value for the field than the one it has.
void Change(const std::string& path, config::Run* run) {
  FieldOrigins origins;
  const std::string before = TextAt(*run, path);
  for (const char* value :
       {"7", "9", "0.5", "true", "false", "elsewhere", "FP32", "DENSE", "BLOCK", "SOFTMAX", "LOCAL",
        "GLOBAL", "GPT2", "MEGATRON", "PLAIN", "CUDA", "REWIND", "ADVANCING"}) {
    config::Run changed = *run;
    const bool taken = SetField(absl::StrCat(path, "=", value), &changed, &origins).ok();
    if (!taken || TextAt(changed, path) == before) continue;
    *run = changed;
    return;
  }
  ADD_FAILURE() << path << " takes none of the values";
}

TEST(CheckSameRun, RefusesEachFieldByNameThatIsNotFree) {
  const config::Run saved = testing::TinyRun(testing::Variant::kUniPool, "text");
  for (const std::string& path : FieldPaths(saved)) {
    if (path == "data.source") continue;
    config::Run run = saved;
    Change(path, &run);
    const bool is_free =
        kFree.count(path) > 0 || kFreeMessages.count(path.substr(0, path.find('.'))) > 0;
    if (is_free) {
      EXPECT_OK(Check(saved, run));
    } else {
      EXPECT_STATUS(Check(saved, run), kInvalidArgument,
                    absl::StrCat("folder: resume refused: ", path, " = ", TextAt(run, path),
                                 " (the checkpoint has ", TextAt(saved, path)));
    }
  }
}

TEST(CheckSameRun, RefusesOtherSourcesAndNamesAllChanges) {
  const config::Run saved = testing::TinyRun(testing::Variant::kUniPool, "text");
  config::Run run = saved;
  run.mutable_data()->add_source()->set_prefix("a");
  run.mutable_model()->set_layers(4);
  const absl::Status status = Check(saved, run);
  EXPECT_STATUS(status, kInvalidArgument, "data.source = [");
  EXPECT_STATUS(status, kInvalidArgument, "model.layers = 4 (the checkpoint has 3)");
}

TEST(CheckSameRun, MegatronsOrderIsOfItsNumberOfSteps) {
  config::Run saved = testing::TinyRun(testing::Variant::kUniPool, "text");
  saved.mutable_data()->set_order(config::Data::MEGATRON);
  config::Run run = saved;
  run.set_steps(20);
  EXPECT_STATUS(Check(saved, run), kInvalidArgument, "steps = 20 (the checkpoint has 10)");
}

DatasetIdentity Text() {
  return {.prefix = "text",
          .documents = 60,
          .tokens = 1000,
          .index_hash = "aa",
          .token_sample_hash = "bb"};
}

config::Manifest SavedWith(const std::vector<DatasetIdentity>& data) {
  config::Manifest manifest;
  for (const DatasetIdentity& identity : data) {
    config::Manifest::Dataset& dataset = *manifest.mutable_data()->add_datasets();
    dataset.set_documents(identity.documents);
    dataset.set_tokens(identity.tokens);
    dataset.set_idx_xxh3_128(identity.index_hash);
    dataset.set_bin_sample_xxh3_128(identity.token_sample_hash);
  }
  return manifest;
}

TEST(CheckSameData, NamesTheFileThatIsAnother) {
  const config::Manifest saved = SavedWith({Text(), Text()});
  DatasetIdentity moved = Text(), longer = Text(), other = Text();
  moved.prefix = "elsewhere/text";
  longer.documents = 61;
  longer.index_hash = "cc";
  other.token_sample_hash = "dd";
  EXPECT_OK(CheckSameData("folder", saved, {Text(), moved}));
  EXPECT_STATUS(CheckSameData("folder", saved, {Text(), longer}), kInvalidArgument,
                "folder: resume refused: other data: text.idx: found 61 documents, 1000 tokens, "
                "xxh3_128 of the .idx cc; the checkpoint has 60 documents, 1000 tokens, xxh3_128 "
                "of the .idx aa; restore the data, or start a new run");
  EXPECT_STATUS(CheckSameData("folder", saved, {other, Text()}), kInvalidArgument,
                "text.bin: found 60 documents, 1000 tokens, xxh3_128 of the sampled .bin dd; the "
                "checkpoint has 60 documents, 1000 tokens, xxh3_128 of the sampled .bin bb");
  EXPECT_STATUS(CheckSameData("folder", saved, {Text()}), kInvalidArgument,
                "found 1 datasets; the checkpoint has 2");
}

TEST(LocalStatisticsWarning, TellsOfOtherMicroBatchesAndRanks) {
  config::Run run = testing::TinyRun(testing::Variant::kUniPoolLocal, "text");  // 12 by 4
  config::Manifest saved;
  *saved.mutable_run() = run;
  saved.set_ranks(2);
  saved.set_step(5);
  EXPECT_EQ(LocalStatisticsWarning(saved, run, 2), "");
  EXPECT_THAT(LocalStatisticsWarning(saved, run, 3),
              ::testing::HasSubstr("micro-batches of 4 sequences on 3 ranks; up to step 5 they "
                                   "used 4 on 2"));
  run.mutable_data()->set_micro_batch(6);
  EXPECT_THAT(LocalStatisticsWarning(saved, run, 2),
              ::testing::HasSubstr("micro-batches of 6 sequences on 2 ranks"));
  run.mutable_pool()->set_statistics(config::Pool::GLOBAL);
  run.mutable_pool()->set_layer_loss(0);
  EXPECT_EQ(LocalStatisticsWarning(saved, run, 3), "");
}

}  // namespace
}  // namespace unipool
