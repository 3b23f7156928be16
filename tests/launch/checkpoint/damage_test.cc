// Any damage to a file of a checkpoint is detected, and the error names the file.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "configs/checkpoint.pb.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/saver.h"
#include "launch/train/trainer.h"
#include "runtime/content_hash.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using testing::TempFolder;

constexpr char kFolder[] = "run/step_00000002";

class CheckpointDamageTest : public ::testing::Test {
 protected:
  // Checkpoints of steps 1 and 2, by two ranks.
  CheckpointDamageTest() {
    testing::WriteTinyDataset(folder_.Path("text"));
    const config::Run run = testing::TinyRun(testing::Variant::kUniPool, folder_.Path("text"));
    const auto corpus = Corpus::Open(run.data()).value();
    testing::OnRanksOwned(2, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto trainer = Trainer::Create(run, *corpus, *world).value();
      for (int i = 0; i < 2; ++i) {
        ASSERT_OK(trainer->Step());
        ASSERT_OK(SaveCheckpoint(folder_.Path("run"), trainer->state(), *world));
      }
    });
    for (const auto& entry : std::filesystem::directory_iterator(folder_.Path(kFolder))) {
      names_.push_back(entry.path().filename().string());
    }
  }

  std::string Name(const std::string& name) const { return absl::StrCat(kFolder, "/", name); }

  absl::Status Verify() const {
    const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder_.Path(kFolder));
    return checkpoint.ok() ? checkpoint->Verify() : checkpoint.status();
  }

  // Replaces the file by `bytes` for a moment: the checkpoint is then damaged, and the error names
  // the file.
  void ExpectSeen(const std::string& name, const std::string& bytes) const {
    const std::string good = folder_.ReadAll(Name(name));
    ASSERT_NE(good, bytes) << name;
    folder_.Write(Name(name), bytes);
    const absl::Status status = Verify();
    EXPECT_FALSE(status.ok()) << name;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(name));
    folder_.Write(Name(name), good);
  }

  TempFolder folder_;
  std::vector<std::string> names_;
};

TEST_F(CheckpointDamageTest, AGoodOneIsGood) {
  EXPECT_EQ(names_.size(), 5u);
  EXPECT_OK(Verify());
}

TEST_F(CheckpointDamageTest, AFlippedBitAnywhere) {
  for (const std::string& name : names_) {
    const std::string good = folder_.ReadAll(Name(name));
    const size_t stride = std::max<size_t>(1, good.size() / 150);
    for (size_t at = 0; at < good.size(); at += stride) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 7)));
      ExpectSeen(name, bad);
    }
    std::string last = good;
    last.back() = static_cast<char>(last.back() ^ 1);
    ExpectSeen(name, last);
  }
  EXPECT_OK(Verify());
}

TEST_F(CheckpointDamageTest, ACutOrAnAddition) {
  for (const std::string& name : names_) {
    const std::string good = folder_.ReadAll(Name(name));
    for (const size_t size : {size_t{0}, size_t{7}, good.size() / 2, good.size() - 1}) {
      ExpectSeen(name, good.substr(0, size));
    }
    ExpectSeen(name, good + '\0');
  }
}

TEST_F(CheckpointDamageTest, FilesThatTradedPlaces) {
  for (const std::string kind : {"model", "optimizer"}) {
    const std::string first = folder_.ReadAll(Name(kind + "-00000.safetensors"));
    const std::string second = folder_.ReadAll(Name(kind + "-00001.safetensors"));
    folder_.Write(Name(kind + "-00000.safetensors"), second);
    folder_.Write(Name(kind + "-00001.safetensors"), first);
    EXPECT_FALSE(Verify().ok());
    folder_.Write(Name(kind + "-00000.safetensors"), first);
    folder_.Write(Name(kind + "-00001.safetensors"), second);
  }
  EXPECT_OK(Verify());
}

TEST_F(CheckpointDamageTest, AFileOfAnotherStep) {
  for (const std::string& name : names_) {
    ExpectSeen(name, folder_.ReadAll("run/step_00000001/" + name));
  }
}

// The manifests have the right hash, so that only their content is wrong.
TEST_F(CheckpointDamageTest, AManifestOfAnotherVersionOrThatLacksAFieldIsRefusedByName) {
  const config::Manifest good = ReadManifest(folder_.Path(kFolder)).value();
  config::Manifest old = good, no_data = good, no_hash = good, no_statistics = good;
  old.set_format_version(3);
  no_data.mutable_data()->clear_datasets();
  no_hash.mutable_data()->mutable_datasets(0)->clear_idx_xxh3_128();
  no_statistics.clear_statistics();
  for (const auto& [manifest, said] : {std::pair(old, "format_version 3: expected 4"),
                                       {no_data, "data: holds no datasets"},
                                       {no_hash, "text': expected prefix, documents, tokens, idx"},
                                       {no_statistics, "holds no statistics"}}) {
    ASSERT_OK(WriteManifest(folder_.Path(kFolder), manifest));
    EXPECT_STATUS(Verify(), kDataLoss, said);
  }
}

using Change = std::function<void(config::Manifest*)>;

// As above.
TEST_F(CheckpointDamageTest, ValuesThatContradictEachOtherAreRefusedByName) {
  const config::Manifest good = ReadManifest(folder_.Path(kFolder)).value();
  const std::pair<const char*, Change> cases[] = {
      {"ranks is 0", [](auto* m) { m->set_ranks(0); }},
      {"ranks is -3", [](auto* m) { m->set_ranks(-3); }},
      {"ranks is 2147483647", [](auto* m) { m->set_ranks(2147483647); }},
      {"expert_ranks is 0", [](auto* m) { m->set_expert_ranks(0); }},
      {"expert_ranks is 3", [](auto* m) { m->set_expert_ranks(3); }},
      {"its config cannot be trained: run: ", [](auto* m) { m->mutable_run()->Clear(); }},
      {"pool.layers_per_pool is 0",
       [](auto* m) { m->mutable_run()->mutable_pool()->set_layers_per_pool(0); }},
      {"model.head_dim is 0", [](auto* m) { m->mutable_run()->mutable_model()->set_head_dim(0); }},
      {"weights, but the config has",
       [](auto* m) {
         m->mutable_run()->mutable_model()->set_layers(2147483647);
         m->mutable_run()->mutable_pool()->set_layers_per_pool(2147483647);
         m->clear_statistics();
         m->mutable_statistics();
         m->clear_expert_map();
       }},
      {"run: model.heads:", [](auto* m) { m->mutable_run()->mutable_model()->set_heads(-1); }},
      {"statistics has 1 counts", [](auto* m) { m->mutable_statistics()->add_counts(1); }},
      {"statistics has a negative", [](auto* m) { m->mutable_statistics()->set_counts(0, -5); }},
      {"expert_map has owner 7", [](auto* m) { m->mutable_expert_map(0)->set_owners(0, 7); }},
      {"statistics has 1 unrouted_choices",
       [](auto* m) {
         m->mutable_statistics()->clear_unrouted_choices();
         m->mutable_statistics()->add_unrouted_choices(1);
       }},
      {"router_c is nan", [](auto* m) { m->set_router_c(NAN); }},
      {"step is -1", [](auto* m) { m->set_step(-1); }},
      {"local_statistics has 1 entries", [](auto* m) { m->add_local_statistics(); }},
      {"a file has 5 bytes", [](auto* m) { m->mutable_files(0)->set_bytes(5); }}};
  for (const auto& [said, change] : cases) {
    config::Manifest manifest = good;
    if (std::string(said) == "statistics has 1 counts") manifest.mutable_statistics()->Clear();
    change(&manifest);
    ASSERT_OK(WriteManifest(folder_.Path(kFolder), manifest));
    EXPECT_STATUS(Verify(), kDataLoss, said);
  }
}

TEST_F(CheckpointDamageTest, AManifestOfANewerVersionIsNoDamage) {
  const config::Manifest good = ReadManifest(folder_.Path(kFolder)).value();
  config::Manifest newer = good;
  newer.set_format_version(5);
  ASSERT_OK(WriteManifest(folder_.Path(kFolder), newer));
  EXPECT_STATUS(Verify(), kFailedPrecondition,
                "format_version is 5, this version reads 4; a newer");
  std::string text;
  google::protobuf::TextFormat::PrintToString(good, &text);
  for (const auto& [line, said] :
       {std::pair("router_v3 { x: 1 }\n", "field 'router_v3' is unknown to this version; a newer"),
        {"tensors { part: THIRD_MOMENT }\n", "value 'THIRD_MOMENT' of field 'part' is unknown"}}) {
    const std::string body = text + line;
    folder_.Write(Name("manifest.textproto"), body + "# xxh3_128: " + ContentHash::Of(body) + "\n");
    ::testing::internal::CaptureStderr();
    EXPECT_STATUS(Verify(), kFailedPrecondition, said);
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  }
}

// The damage is not seen by hashes: the manifest is written anew.
TEST_F(CheckpointDamageTest, AWeightOfTooManyDimensionsIsRefused) {
  config::Manifest manifest = ReadManifest(folder_.Path(kFolder)).value();
  const std::vector<int64_t> shape =
      Checkpoint::Open(folder_.Path(kFolder))->ShapeOf("lm_head.weight").value();
  const std::string found = absl::StrCat("[", shape[0], ",", shape[1], "]");
  const std::string longer = absl::StrCat("[1,1,1,", shape[0], ",", shape[1], "]");
  int changed = 0;
  for (const std::string& name : names_) {
    std::string bytes = folder_.ReadAll(Name(name));
    const size_t tensor = bytes.find("\"lm_head.weight\"");
    if (tensor == std::string::npos || name == "manifest.textproto") continue;
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof(header));
    bytes.replace(bytes.find(found, tensor), found.size(), longer);
    header += longer.size() - found.size();
    const size_t padding = 63 - (header + 7) % 64;  // tensors begin at multiples of 64 bytes
    bytes.insert(sizeof(header) + header, padding, ' ');
    header += padding;
    std::memcpy(bytes.data(), &header, sizeof(header));
    folder_.Write(Name(name), bytes);
    for (auto& file : *manifest.mutable_files()) {
      if (file.name() != name) continue;
      file.set_bytes(static_cast<int64_t>(bytes.size()));
      file.set_header_xxh3_128(ContentHash::Of(bytes.substr(0, sizeof(header) + header)));
    }
    ++changed;
  }
  ASSERT_EQ(changed, 1);
  ASSERT_OK(WriteManifest(folder_.Path(kFolder), manifest));
  EXPECT_STATUS(Checkpoint::Open(folder_.Path(kFolder))->ShapeOf("lm_head.weight"), kDataLoss,
                "has 5 dimensions");
}

TEST_F(CheckpointDamageTest, AMissingFile) {
  for (const std::string& name : names_) {
    const std::string good = folder_.ReadAll(Name(name));
    std::filesystem::remove(folder_.Path(Name(name)));
    const absl::Status status = Verify();
    EXPECT_FALSE(status.ok()) << name;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(name));
    folder_.Write(Name(name), good);
  }
}

}  // namespace
}  // namespace unipool
