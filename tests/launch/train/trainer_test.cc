// The whole system with threads as ranks: the same losses on any number of ranks, the same bits in
// a second run, and the errors of runs that diverge. golden_test.cc checks the losses themselves.
#include "launch/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "configs/run.pb.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using testing::TempFolder;
using testing::TinyRun;
using testing::Variant;

constexpr Variant kVariants[] = {Variant::kDense, Variant::kVanilla, Variant::kUniPool,
                                 Variant::kUniPoolTop2, Variant::kSigmoid};

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() : prefix_(folder_.Path("text")) {
    testing::WriteTinyDataset(prefix_);
    corpus_ = Corpus::Open(Run(Variant::kDense).data()).value();
  }

  config::Run Run(Variant variant) const { return TinyRun(variant, prefix_); }

  // Trains on `ranks` threads and returns the records of rank 0.
  std::vector<StepRecord> Train(const config::Run& run, int ranks) const {
    std::vector<StepRecord> records;
    testing::OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto trainer = Trainer::Create(run, *corpus_, *world).value();
      ASSERT_OK(trainer->Run([&](const StepRecord& record) {
        if (world->is_first()) records.push_back(record);
        return absl::OkStatus();
      }));
    });
    return records;
  }

  static void ExpectSame(const std::vector<StepRecord>& a, const std::vector<StepRecord>& b,
                         double tolerance) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_NEAR(a[i].lm_loss, b[i].lm_loss, tolerance) << "step " << a[i].step;
      EXPECT_NEAR(a[i].pool_loss, b[i].pool_loss, tolerance) << "step " << a[i].step;
      EXPECT_NEAR(a[i].layer_aux_loss, b[i].layer_aux_loss, tolerance) << "step " << a[i].step;
      EXPECT_NEAR(a[i].grad_norm, b[i].grad_norm, tolerance * 10) << "step " << a[i].step;
    }
    EXPECT_NEAR(a.back().validation->loss, b.back().validation->loss, tolerance);
  }

  TempFolder folder_;
  std::string prefix_;
  std::unique_ptr<Corpus> corpus_;
};

TEST_F(TrainerTest, AnyNumberOfRanksGivesTheSameLosses) {
  for (const Variant variant : kVariants) {
    config::Run run = Run(variant);
    run.mutable_pool()->set_layer_statistics(config::Pool::GLOBAL);
    const std::vector<StepRecord> one = Train(run, 1);
    for (const int ranks : {2, 3, 4, 7}) {
      SCOPED_TRACE(::testing::Message()
                   << "variant " << static_cast<int>(variant) << ", " << ranks << " ranks");
      ExpectSame(Train(run, ranks), one, 1e-5);
    }
  }
}

TEST_F(TrainerTest, RanksThatDoNotDivideTheBatchGiveTheSameLosses) {
  config::Run run = Run(Variant::kUniPool);
  run.mutable_data()->set_global_batch(5);
  ExpectSame(Train(run, 7), Train(run, 1), 1e-5);
}

TEST_F(TrainerTest, AccumulationGivesTheSameLosses) {
  config::Run run = Run(Variant::kUniPool);
  const std::vector<StepRecord> whole = Train(run, 1);
  run.mutable_data()->set_micro_batch(2);
  ExpectSame(Train(run, 1), whole, 1e-5);
  ExpectSame(Train(run, 3), whole, 1e-5);
}

TEST_F(TrainerTest, ReplicasOfExpertsGiveTheSameLosses) {
  config::Run run = Run(Variant::kUniPool);
  const std::vector<StepRecord> one = Train(run, 1);
  run.mutable_parallel()->set_expert_parallel(2);
  ExpectSame(Train(run, 4), one, 1e-5);
  run.mutable_parallel()->set_expert_parallel(1);
  ExpectSame(Train(run, 3), one, 1e-5);
}

TEST_F(TrainerTest, TheSameRunTwiceGivesTheSameBits) {
  for (const int ranks : {1, 3}) {
    const std::vector<StepRecord> first = Train(Run(Variant::kUniPoolTop2), ranks);
    const std::vector<StepRecord> second = Train(Run(Variant::kUniPoolTop2), ranks);
    ExpectSame(first, second, 0);
  }
}

TEST_F(TrainerTest, AnyNumberOfChunksGivesTheSameBits) {
  for (const Variant variant : {Variant::kUniPoolTop2, Variant::kVanilla}) {
    config::Run run = Run(variant);
    run.set_steps(10);
    run.mutable_parallel()->set_exchange_chunks(1);
    const std::vector<StepRecord> one = Train(run, 3);
    for (const int chunks : {0, 2, 3, 100}) {
      SCOPED_TRACE(::testing::Message()
                   << "variant " << static_cast<int>(variant) << ", " << chunks << " chunks");
      run.mutable_parallel()->set_exchange_chunks(chunks);
      ExpectSame(Train(run, 3), one, 0);
    }
  }
}

// This holds in the first step too, whose learning rate is 0.
TEST_F(TrainerTest, AStepMovesTheBiasesByTheChoicesOfAllRanks) {
  const config::Run run = Run(Variant::kSigmoid);
  testing::OnRanksOwned(3, [&](std::unique_ptr<Communicator> comm) {
    const auto world = World::Create(run, std::move(comm)).value();
    const auto trainer = Trainer::Create(run, *corpus_, *world).value();
    ASSERT_OK(trainer->Step());
    int layer = 0;
    for (const Parameter& parameter : trainer->parameters().parameters()) {
      if (parameter.kind != ParameterKind::kState) continue;
      EXPECT_EQ(parameter.name, absl::StrCat("model.layers.", layer, ".mlp.router.bias"));
      const absl::Span<const int64_t> counts = trainer->model().statistics().previous(layer++);
      for (size_t e = 0; e < 7; ++e) {
        const int64_t below = 12 * 16 * 2 - 7 * counts[e];  // no multiple of 7: never the mean
        EXPECT_EQ(parameter.value.as<float>()[e], below > 0 ? 0.01f : -0.01f);
      }
    }
    EXPECT_EQ(layer, 3);
  });
}

TEST_F(TrainerTest, TheLossFallsAndTheFirstStepOfMegatronsScheduleChangesNothing) {
  const std::vector<StepRecord> records = Train(Run(Variant::kUniPool), 1);
  EXPECT_NEAR(records.front().validation->loss, std::log(257.0), 0.05);
  EXPECT_EQ(records[1].lr, 0);
  EXPECT_LT(records.back().validation->loss, records.front().validation->loss - 1.0);
  EXPECT_EQ(records[1].pool_loss, 0);  // no statistics yet
  EXPECT_GT(records[2].pool_loss, 0);
}

TEST_F(TrainerTest, DivergenceStopsWithTheStepAndTheFirstBadTensor) {
  config::Run run = Run(Variant::kUniPool);
  run.mutable_schedule()->set_lr(1e38);
  run.mutable_schedule()->set_min_lr(1e37);
  testing::OnRanksOwned(2, [&](std::unique_ptr<Communicator> comm) {
    const auto world = World::Create(run, std::move(comm)).value();
    const auto trainer = Trainer::Create(run, *corpus_, *world).value();
    const absl::Status status = trainer->Run([](const StepRecord&) { return absl::OkStatus(); });
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    if (world->is_first()) {
      EXPECT_STATUS(status, kOutOfRange, "diverged at step 3");
      EXPECT_STATUS(status, kOutOfRange, "first bad tensor: ");
    }
  });
}

TEST_F(TrainerTest, ASpikeSkipsTheSameUpdatesOnAnyNumberOfRanks) {
  config::Run run = Run(Variant::kUniPool);
  run.set_steps(30);
  run.mutable_divergence()->set_action(config::Divergence::SKIP_UPDATE);
  run.mutable_divergence()->set_norm_spike(1.1);
  run.mutable_divergence()->set_window(4);
  const std::vector<StepRecord> one = Train(run, 1);
  EXPECT_GT(one.back().skipped_updates, 0);
  EXPECT_LT(one.back().skipped_updates, 20);
  const std::vector<StepRecord> three = Train(run, 3);
  ExpectSame(three, one, 1e-4);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(three[i].skipped_updates, one[i].skipped_updates) << "step " << one[i].step;
  }
}

TEST_F(TrainerTest, ASkippedUpdateLeavesWeightsAsTheyWere) {
  config::Run run = Run(Variant::kUniPool);
  run.mutable_divergence()->set_action(config::Divergence::SKIP_UPDATE);
  const auto world = World::Create(run).value();
  const auto trainer = Trainer::Create(run, *corpus_, *world).value();
  for (int i = 0; i < 3; ++i) ASSERT_OK(trainer->Step());
  const Tensor weights = trainer->parameters().values(ParameterKind::kReplicated);
  float* used = nullptr;
  for (const Parameter& parameter : trainer->parameters().parameters()) {
    if (parameter.name == "model.norm.weight") used = parameter.value.as<float>();
  }
  const float sound = std::exchange(*used, std::nanf(""));
  const std::vector<float> before(weights.as<float>(), weights.as<float>() + weights.numel());
  const StepRecord record = trainer->Step().value();
  EXPECT_EQ(record.step, 4);
  EXPECT_EQ(record.skipped_updates, 1);
  EXPECT_EQ(std::memcmp(before.data(), weights.data, before.size() * sizeof(float)), 0);
  *used = sound;
  const StepRecord next = trainer->Step().value();
  EXPECT_TRUE(std::isfinite(next.grad_norm));
  EXPECT_EQ(next.skipped_updates, 1);
}

TEST_F(TrainerTest, TheMaximumOfSkippedUpdatesInARowEndsTheRun) {
  config::Run run = Run(Variant::kUniPool);
  run.mutable_divergence()->set_action(config::Divergence::SKIP_UPDATE);
  run.mutable_divergence()->set_max_skips_in_a_row(2);
  run.mutable_schedule()->set_lr(1e38);
  run.mutable_schedule()->set_min_lr(1e37);
  const auto world = World::Create(run).value();
  const auto trainer = Trainer::Create(run, *corpus_, *world).value();
  EXPECT_STATUS(trainer->Run([](const StepRecord&) { return absl::OkStatus(); }), kOutOfRange,
                "diverged at step 5");
}

TEST_F(TrainerTest, TheRankWithTheFirstBadTensorReportsIt) {
  testing::OnRanksOwned(2, [&](std::unique_ptr<Communicator> comm) {
    const config::Run run = Run(Variant::kUniPool);
    const auto world = World::Create(run, std::move(comm)).value();
    const auto trainer = Trainer::Create(run, *corpus_, *world).value();
    // Expert 6 belongs to the second rank; the first rank gets its results later.
    const std::string name = "model.expert_pools.0.experts.6.up_proj.weight";
    for (const Parameter& parameter : trainer->parameters().parameters()) {
      if (parameter.name == name) parameter.value.as<float>()[5] = std::nanf("");
    }
    const absl::Status status = trainer->Step().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    EXPECT_EQ(MustReport(status), world->rank() == 1);
    if (world->rank() == 1) EXPECT_STATUS(status, kOutOfRange, "weight " + name + ", element 5");
  });
}

TEST_F(TrainerTest, WithoutAValidationPartThereIsNoValidation) {
  config::Run run = Run(Variant::kDense);
  run.mutable_data()->set_split("90,0,10");
  run.mutable_eval()->set_every_steps(2);
  for (const bool has_test : {false, true}) {
    run.mutable_eval()->set_test(has_test);
    const std::vector<StepRecord> records = Train(run, 2);
    ASSERT_EQ(records.size(), static_cast<size_t>(run.steps()) + 1);
    EXPECT_FALSE(records[0].has_training);
    for (const StepRecord& record : records) EXPECT_FALSE(record.validation.has_value());
    EXPECT_FALSE(records[2].test.has_value());
    EXPECT_EQ(records.back().test.has_value(), has_test);
  }
}

TEST_F(TrainerTest, AValidationThatIsNanIsAnError) {
  config::Run run = Run(Variant::kUniPool);
  run.set_steps(1);
  run.mutable_schedule()->set_convention(config::Schedule::PLAIN);
  run.mutable_schedule()->set_warmup_steps(0);
  run.mutable_schedule()->set_decay_steps(100);
  run.mutable_schedule()->set_lr(3e38);
  testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> comm) {
    const auto world = World::Create(run, std::move(comm)).value();
    const auto trainer = Trainer::Create(run, *corpus_, *world).value();
    EXPECT_STATUS(trainer->Run([](const StepRecord&) { return absl::OkStatus(); }), kOutOfRange,
                  "diverged at step 1: the validation loss is nan");
  });
}

TEST_F(TrainerTest, IdsBeyondTheTokenizerLeaveBitsPerByteUnknown) {
  const std::string prefix = folder_.Path("large-ids");
  auto writer = IndexedDatasetWriter::Create(prefix, 600).value();
  const std::vector<int32_t> document(40, 500);
  for (int i = 0; i < 60; ++i) ASSERT_OK(writer->AddDocument(document));
  ASSERT_OK(writer->Finish());
  config::Run run = testing::TinyRun(Variant::kDense, prefix);
  run.mutable_model()->set_vocab(600);
  corpus_ = Corpus::Open(run.data()).value();
  const std::vector<StepRecord> records = Train(run, 2);
  EXPECT_FALSE(records.front().validation->bits_per_byte.has_value());
  EXPECT_NEAR(records.front().validation->loss, std::log(600.0), 0.1);
}

TEST_F(TrainerTest, BitsPerByteAreOfTheTokenizersBytes) {
  config::Run run = Run(Variant::kDense);
  config::Data& data = *run.mutable_data();
  data.set_tokenizer(config::Data::GPT2);
  data.set_vocab_file(UNIPOOL_TEST_BPE "/vocab.json");
  data.set_merges_file(UNIPOOL_TEST_BPE "/merges.txt");
  run.mutable_model()->set_vocab(856);
  testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> comm) {
    const auto world = World::Create(run, std::move(comm)).value();
    EXPECT_STATUS(Trainer::Create(run, *corpus_, *world), kInvalidArgument,
                  "data.vocab_file: found 857 tokens in");
  });
  run.mutable_model()->set_vocab(857);
  // The text consists of ids below 257, which stand for one byte each, except the last.
  const Validation validation = *Train(run, 2).front().validation;
  ASSERT_TRUE(validation.bits_per_byte.has_value());
  const double bits_per_token = validation.loss / std::log(2.0);
  EXPECT_GT(*validation.bits_per_byte, 0.9 * bits_per_token);
  EXPECT_LE(*validation.bits_per_byte, bits_per_token);
}

TEST_F(TrainerTest, WithoutATokenizersFilesBitsPerByteAreUnknown) {
  config::Run run = Run(Variant::kDense);
  run.mutable_data()->set_tokenizer(config::Data::GPT2);
  EXPECT_FALSE(Train(run, 2).front().validation->bits_per_byte.has_value());
}

}  // namespace
}  // namespace unipool
