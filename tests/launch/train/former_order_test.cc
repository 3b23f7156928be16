// A run over a blend keeps the version of the order with which it began.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "launch/analysis/evaluation_text.h"
#include "launch/checkpoint/config_change.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/run_folder.h"
#include "launch/checkpoint/saver.h"
#include "launch/train/resume.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using Losses = std::vector<double>;

class FormerOrderTest : public ::testing::Test {
 protected:
  FormerOrderTest() : run_(testing::TinyRun(testing::Variant::kDense, "text")) {
    run_.mutable_data()->clear_prefix();
    run_.mutable_data()->set_order(config::Data::MEGATRON);
    for (const double weight : {0.7, 0.2, 0.1}) {
      config::Data::Source& source = *run_.mutable_data()->add_source();
      source.set_prefix(folder_.Path(absl::StrCat("text", weight)));
      source.set_weight(weight);
      testing::WriteTinyDataset(source.prefix());
    }
  }

  std::string Checkpoints(const std::string& place) const {
    return RunFolder(folder_.Path(place)).checkpoints();
  }

  // Resumes the run in `place`, trains up to step `last` and saves. Returns the losses of the
  // steps.
  Losses Train(const std::string& place, int64_t last) const {
    Losses losses;
    testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> comm) {
      config::Run run = run_;
      run.set_run_dir(folder_.Path(place));
      const auto corpus = Corpus::Open(run.data()).value();
      const auto world = World::Create(run, std::move(comm)).value();
      const auto trainer = ResumeTrainer(&run, {}, *corpus, *world).value();
      trainer->StopAfter(last);
      ASSERT_OK(trainer->Run([&](const StepRecord& record) {
        if (record.has_training && record.step > 0) losses.push_back(record.lm_loss);
        return absl::OkStatus();
      }));
      ASSERT_OK(SaveCheckpoint(Checkpoints(place), trainer->state(), *world));
    });
    return losses;
  }

  config::Manifest ManifestOf(const std::string& place, int64_t step) const {
    return ReadManifest(CheckpointPath(Checkpoints(place), step)).value();
  }

  // Makes the run in `place` one that a program without versions of the order saved at step 0.
  void Begin(const std::string& place) const {
    Train(place, 0);
    config::Manifest manifest = ManifestOf(place, 0);
    EXPECT_EQ(manifest.data().order_version(), 2);
    manifest.mutable_data()->clear_order_version();
    ASSERT_OK(WriteManifest(CheckpointPath(Checkpoints(place), 0), manifest));
  }

  testing::TempFolder folder_;
  config::Run run_;
};

TEST_F(FormerOrderTest, ARunKeepsTheOrderWithWhichItBegan) {
  Begin("whole");
  Begin("stopped");
  const Losses whole = Train("whole", 6), present = Train("present", 6);
  EXPECT_NE(whole, present);
  Losses stopped = Train("stopped", 3);
  EXPECT_EQ(ManifestOf("stopped", 3).data().order_version(), 1);
  for (const double loss : Train("stopped", 6)) stopped.push_back(loss);
  EXPECT_EQ(stopped, whole);
  EXPECT_EQ(ManifestOf("stopped", 6).data().order_version(), 1);
  EXPECT_EQ(ManifestOf("present", 6).data().order_version(), 2);
}

TEST_F(FormerOrderTest, WeightsWithOneOrderTakeThePresentVersion) {
  for (config::Data::Source& source : *run_.mutable_data()->mutable_source()) source.set_weight(1);
  Begin("equal");
  const Losses losses = Train("equal", 6);
  EXPECT_EQ(losses, Train("present", 6));
  EXPECT_EQ(ManifestOf("equal", 6).data().order_version(), 2);
}

TEST_F(FormerOrderTest, EvaluationsReadTheOrderOfTheirCheckpoint) {
  std::vector<std::vector<int32_t>> read;
  for (const int version : {1, 2, 1}) {
    const TextPart part{.split = Split::kTrain, .sequences = 7, .order_version = version};
    const auto text = EvaluationText::Open(run_, part).value();
    ASSERT_OK(text->Read(6, absl::MakeSpan(read.emplace_back(run_.model().sequence() + 1))));
  }
  EXPECT_EQ(read[0], read[2]);
  EXPECT_NE(read[0], read[1]);
}

TEST_F(FormerOrderTest, TheNoteNamesTheRunAndBothVersions) {
  config::Manifest saved;
  EXPECT_EQ(OrderNote("f", saved, run_.data()),
            "f: data.order = MEGATRON: the run began with version 1 of the order and keeps it; new "
            "runs use version 2, which decides ties between datasets as Megatron-Core does");
  saved.mutable_data()->set_order_version(2);
  EXPECT_EQ(OrderNote("f", saved, run_.data()), "");
  saved.mutable_data()->clear_order_version();
  run_.mutable_data()->set_order(config::Data::STATELESS);
  EXPECT_EQ(OrderNote("f", saved, run_.data()), "");
}

}  // namespace
}  // namespace unipool
