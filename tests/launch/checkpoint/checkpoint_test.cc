// Checkpoints of ranks that are threads: every parameter is stored once, bit for bit, the manifest
// describes it, and a failed save leaves no files.
#include "launch/checkpoint/saver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "configs/checkpoint.pb.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "launch/train/trainer.h"
#include "runtime/tensor_store.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using testing::TempFolder;
using testing::Variant;

using Weights = std::map<std::string, std::vector<float>>;

std::vector<float> Values(const Tensor& tensor) {
  return std::vector<float>(tensor.as<float>(), tensor.as<float>() + tensor.numel());
}

// Names of the files in `folder` that begin with `prefix`, sorted.
std::vector<std::string> FilesIn(const std::string& folder, const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, prefix)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Every weight of a checkpoint. A weight that is stored twice is a failure.
Weights ReadWeights(const std::string& folder) {
  Weights weights;
  for (const std::string& name : FilesIn(folder, "model-")) {
    const auto file = TensorFile::Open(absl::StrCat(folder, "/", name)).value();
    for (const std::string& tensor : file->names()) {
      const TensorInfo info = file->Info(tensor).value();
      std::vector<float> values(info.bytes / static_cast<int64_t>(sizeof(float)));
      Tensor view = Tensor::Of(values.data(), {});
      view.rank = static_cast<int>(info.shape.size());
      std::copy(info.shape.begin(), info.shape.end(), view.dims);
      EXPECT_OK(file->Read(tensor, view));
      EXPECT_TRUE(weights.emplace(tensor, std::move(values)).second) << tensor << " is there twice";
    }
  }
  return weights;
}

config::Manifest ReadManifest(const TempFolder& folder, const std::string& checkpoint) {
  config::Manifest manifest;
  const std::string text = folder.ReadAll(checkpoint + "/manifest.textproto");
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &manifest));
  return manifest;
}

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() : prefix_(folder_.Path("text")) {
    testing::WriteTinyDataset(prefix_);
    corpus_ = Corpus::Open(Run(Variant::kDense).data()).value();
  }

  config::Run Run(Variant variant, int expert_parallel = 0) const {
    config::Run run = testing::TinyRun(variant, prefix_);
    run.mutable_parallel()->set_expert_parallel(expert_parallel);
    return run;
  }

  // Trains `steps` steps, saves below folder_/`place`, and gives each rank's result and the weights
  // of all ranks together.
  std::vector<absl::Status> Save(const config::Run& run, int ranks, int steps,
                                 const std::string& place, Weights* weights) const {
    std::vector<absl::Status> statuses(ranks);
    std::mutex mutex;
    testing::OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto trainer = Trainer::Create(run, *corpus_, *world).value();
      for (int i = 0; i < steps; ++i) ASSERT_OK(trainer->Step());
      const auto saved = SaveCheckpoint(folder_.Path(place), trainer->state(), *world);
      statuses[world->rank()] = saved.status();
      const std::string expected = absl::StrCat(folder_.Path(place), "/step_0000000", steps);
      EXPECT_EQ(saved.value_or(expected), expected);
      const std::lock_guard lock(mutex);
      for (const Parameter& parameter : trainer->parameters().parameters()) {
        const auto [at, is_new] = weights->emplace(parameter.name, Values(parameter.value));
        EXPECT_EQ(at->second, Values(parameter.value)) << parameter.name << " differs over ranks";
      }
    });
    return statuses;
  }

  void SaveWell(const config::Run& run, int ranks, int steps, const std::string& place,
                Weights* weights) const {
    for (const absl::Status& status : Save(run, ranks, steps, place, weights)) EXPECT_OK(status);
  }

  // Each rank has an error, and the first rank's holds `message`.
  void ExpectAllFail(int ranks, const std::string& place, const std::string& message) const {
    Weights ignored;
    const std::vector<absl::Status> statuses =
        Save(Run(Variant::kUniPool), ranks, 1, place, &ignored);
    for (const absl::Status& status : statuses) EXPECT_EQ(status.code(), statuses[0].code());
    EXPECT_FALSE(statuses[0].ok());
    EXPECT_THAT(std::string(statuses[0].message()), ::testing::HasSubstr(message));
  }

  // Names in folder_/`place`, sorted.
  std::vector<std::string> Names(const std::string& place) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.Path(place))) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  TempFolder folder_;
  std::string prefix_;
  std::unique_ptr<Corpus> corpus_;
};

TEST_F(CheckpointTest, HoldsEachParameterOnceAndBitForBit) {
  for (const Variant variant : {Variant::kDense, Variant::kVanilla, Variant::kUniPool}) {
    for (const auto& [ranks, expert_parallel] : {std::pair(1, 0), {2, 0}, {3, 0}, {4, 2}, {3, 1}}) {
      const std::string place =
          absl::StrCat("run-", static_cast<int>(variant), "-", ranks, "-", expert_parallel);
      SCOPED_TRACE(place);
      Weights weights;
      SaveWell(Run(variant, expert_parallel), ranks, 2, place, &weights);
      EXPECT_EQ(ReadWeights(folder_.Path(place + "/step_00000002")), weights);
    }
  }
}

TEST_F(CheckpointTest, RanksWriteAboutAsMuch) {
  for (const auto& [variant, ranks, expert_parallel] :
       {std::tuple(Variant::kDense, 3, 0), {Variant::kUniPool, 4, 2}, {Variant::kUniPool, 7, 0}}) {
    const std::string place = absl::StrCat("run-", ranks, "-", expert_parallel);
    SCOPED_TRACE(place);
    Weights weights;
    SaveWell(Run(variant, expert_parallel), ranks, 0, place, &weights);
    std::map<std::string, int64_t> bytes;  // by the rank in the names
    const config::Manifest manifest = ReadManifest(folder_, place + "/step_00000000");
    for (const config::Manifest::File& file : manifest.files()) {
      bytes[file.name().substr(file.name().find('-'))] += file.bytes();
    }
    ASSERT_EQ(static_cast<int>(bytes.size()), ranks);
    int64_t total = 0, max = 0;
    for (const auto& [rank, count] : bytes) {
      total += count;
      max = std::max(max, count);
    }
    EXPECT_LT(max * ranks, 1.3 * static_cast<double>(total));
  }
}

TEST_F(CheckpointTest, ARankWithoutExpertsWritesItsShareOfTheRest) {
  config::Run few = Run(Variant::kUniPool);
  few.mutable_pool()->set_experts(2);
  Weights weights;
  SaveWell(few, 3, 1, "few", &weights);
  EXPECT_EQ(ReadWeights(folder_.Path("few/step_00000001")), weights);
  EXPECT_THAT(FilesIn(folder_.Path("few/step_00000001"), "optimizer-"),
              ElementsAre("optimizer-00000.safetensors", "optimizer-00001.safetensors",
                          "optimizer-00002.safetensors"));
}

TEST_F(CheckpointTest, TheManifestSaysWhatWasSaved) {
  const config::Run run = Run(Variant::kUniPool, 2);
  Weights weights;
  SaveWell(run, 4, 3, "run", &weights);
  const config::Manifest manifest = ReadManifest(folder_, "run/step_00000003");
  EXPECT_EQ(manifest.format_version(), 4);
  EXPECT_EQ(manifest.step(), 3);
  EXPECT_EQ(manifest.ranks(), 4);
  EXPECT_EQ(manifest.expert_ranks(), 2);
  EXPECT_EQ(manifest.data().next_step(), 3);
  ASSERT_EQ(manifest.data().datasets_size(), 1);
  const config::Manifest::Dataset& dataset = manifest.data().datasets(0);
  EXPECT_EQ(dataset.prefix(), prefix_);
  EXPECT_EQ(dataset.documents(), 60);
  EXPECT_EQ(dataset.tokens(), corpus_->shards()[0]->num_tokens());
  EXPECT_EQ(dataset.idx_xxh3_128(), DigestFile(prefix_ + ".idx")->xxh3_128);
  EXPECT_EQ(dataset.bin_sample_xxh3_128(), DigestFile(prefix_ + ".bin")->xxh3_128);
  EXPECT_EQ(manifest.random().seed(), run.seed());
  EXPECT_EQ(manifest.router_c(), 2.0f);
  EXPECT_EQ(manifest.statistics().counts_size(), 3 * 7 + 1);  // layers, experts, the unrouted
  EXPECT_THAT(manifest.expert_map(0).owners(), ElementsAre(0, 0, 0, 0, 1, 1, 1));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(manifest.run(), run));
}

// If every choice was sent, the manifest is as before there was the field.
TEST_F(CheckpointTest, TheManifestHoldsUnroutedChoicesOnlyIfThereAreAny) {
  config::Run run = Run(Variant::kUniPool);
  run.mutable_pool()->set_top_k(7);
  Weights weights, softmax_weights;
  SaveWell(run, 2, 1, "norm", &weights);
  SaveWell(Run(Variant::kVanilla), 2, 1, "softmax", &softmax_weights);
  const config::Manifest norm = ReadManifest(folder_, "norm/step_00000001");
  ASSERT_EQ(norm.statistics().unrouted_choices_size(), 3 * 7);
  for (int i = 0; i < 3 * 7; ++i) {
    EXPECT_GT(norm.statistics().unrouted_choices(i), 0);
    EXPECT_LT(norm.statistics().unrouted_choices(i), norm.statistics().counts(i));
  }
  const config::Manifest softmax = ReadManifest(folder_, "softmax/step_00000001");
  EXPECT_EQ(softmax.statistics().unrouted_choices_size(), 0);
}

TEST_F(CheckpointTest, TheManifestNamesEachFileWithItsSizeAndHash) {
  Weights weights;
  SaveWell(Run(Variant::kUniPool), 3, 1, "run", &weights);
  const std::string checkpoint = folder_.Path("run/step_00000001");
  std::vector<std::string> names;
  const config::Manifest manifest = ReadManifest(folder_, "run/step_00000001");
  for (const config::Manifest::File& file : manifest.files()) {
    names.push_back(file.name());
    const FileDigest digest = DigestFile(absl::StrCat(checkpoint, "/", file.name())).value();
    EXPECT_EQ(file.bytes(), digest.bytes);
    EXPECT_EQ(file.xxh3_128(), digest.xxh3_128);
  }
  names.push_back("manifest.textproto");
  std::sort(names.begin(), names.end());
  EXPECT_EQ(Names("run/step_00000001"), names);
}

TEST_F(CheckpointTest, LatestNamesTheNewestAndNothingElseIsThere) {
  Weights first, second;
  SaveWell(Run(Variant::kUniPool), 2, 1, "run", &first);
  EXPECT_EQ(folder_.ReadAll("run/latest"), "step_00000001\n");
  SaveWell(Run(Variant::kUniPool), 2, 2, "run", &second);
  EXPECT_EQ(folder_.ReadAll("run/latest"), "step_00000002\n");
  EXPECT_THAT(Names("run"), ElementsAre("latest", "step_00000001", "step_00000002"));
}

TEST_F(CheckpointTest, SavingAStepAgainReplacesIt) {
  config::Run run = Run(Variant::kUniPool);
  Weights first, second;
  SaveWell(run, 3, 1, "run", &first);
  run.set_seed(run.seed() + 1);
  SaveWell(run, 1, 1, "run", &second);
  EXPECT_NE(first, second);
  EXPECT_EQ(ReadWeights(folder_.Path("run/step_00000001")), second);
}

TEST_F(CheckpointTest, AFileInTheWayIsAnErrorOnAllRanks) {
  folder_.Write("blocker", "stays");
  ExpectAllFail(3, "blocker/checkpoints", folder_.Path("blocker/checkpoints"));
  EXPECT_EQ(folder_.ReadAll("blocker"), "stays");
}

TEST_F(CheckpointTest, AFullDiskIsAnErrorOnAllRanksAndLeavesTheOldCheckpoint) {
  Weights weights;
  SaveWell(Run(Variant::kUniPool), 3, 0, "run", &weights);
  {
    const testing::FileSizeLimit limit(20000);
    ExpectAllFail(3, "run", folder_.Path("run/step_00000001.tmp/model-00000.safetensors"));
  }
  EXPECT_THAT(Names("run"), ElementsAre("latest", "step_00000000"));
  EXPECT_EQ(folder_.ReadAll("run/latest"), "step_00000000\n");
  EXPECT_EQ(ReadWeights(folder_.Path("run/step_00000000")), weights);
}

TEST_F(CheckpointTest, LatestThatCannotBeWrittenLeavesNothingUnderTheFinalName) {
  folder_.Write("run/latest/file", "in the way");
  ExpectAllFail(2, "run", folder_.Path("run/latest"));
  EXPECT_THAT(Names("run"), ElementsAre("latest"));
}

TEST_F(CheckpointTest, WhatACrashLeftIsNotPartOfTheNextCheckpoint) {
  folder_.Write("run/step_00000001.tmp/model-00005.safetensors", "of a run on more ranks");
  Weights weights;
  SaveWell(Run(Variant::kUniPool), 2, 1, "run", &weights);
  EXPECT_THAT(
      Names("run/step_00000001"),
      ElementsAre("manifest.textproto", "model-00000.safetensors", "model-00001.safetensors",
                  "optimizer-00000.safetensors", "optimizer-00001.safetensors"));
}

TEST_F(CheckpointTest, AnyNumberOfRanksStartsFromTheSameWeights) {
  for (const Variant variant : {Variant::kDense, Variant::kVanilla, Variant::kUniPool}) {
    SCOPED_TRACE(static_cast<int>(variant));
    Weights one, three;
    SaveWell(Run(variant), 1, 0, "one", &one);
    SaveWell(Run(variant), 3, 0, "three", &three);
    EXPECT_EQ(ReadWeights(folder_.Path("one/step_00000000")),
              ReadWeights(folder_.Path("three/step_00000000")));
  }
}

}  // namespace
}  // namespace unipool
