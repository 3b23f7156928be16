// Evaluation gives the same numbers as the validation of training, on any number of ranks.
#include "launch/analysis/inference_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "launch/analysis/measurement.h"
#include "launch/analysis/routing_hooks.h"
#include "launch/train/trainer.h"
#include "tests/support/looking.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using testing::LookingTest;
using testing::Variant;

class InferenceTest : public LookingTest {
 protected:
  // The validation of a trainer on the initial weights of a run.
  Validation Untrained(const config::Run& run) const {
    Validation validation{};
    testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto corpus = Corpus::Open(run.data()).value();
      validation = *Trainer::Create(run, *corpus, *world).value()->Validate().value();
    });
    return validation;
  }
};

TEST_F(InferenceTest, LossEqualsTheValidationOfTheTrainer) {
  for (const Variant variant : {Variant::kDense, Variant::kVanilla, Variant::kUniPoolTop2}) {
    const config::Run run = Run(variant);
    const Validation expected = Untrained(run);
    for (const int ranks : {1, 2, 3}) {
      const TextLoss loss = Look<TextLoss>(run, ranks, [&](InferenceModel& model) {
        return MeasureTextLoss(*Text(run), nullptr, model).value();
      });
      EXPECT_NEAR(loss.validation.loss, expected.loss, 1e-6);
      EXPECT_NEAR(*loss.validation.bits_per_byte, *expected.bits_per_byte, 1e-6);
      EXPECT_EQ(loss.tokens, 8 * run.model().sequence());
    }
  }
}

TEST_F(InferenceTest, EveryRouteIsCountedOnceOnAnyNumberOfRanks) {
  const config::Run run = Run(Variant::kUniPoolTop2);
  std::vector<int64_t> on_one_rank;
  for (const int ranks : {1, 2, 3, 5}) {
    const auto counts = Look<std::vector<int64_t>>(run, ranks, [&](InferenceModel& model) {
      RouteCounter counter(run);
      EXPECT_OK(MeasureTextLoss(*Text(run), &counter, model));
      SumOverRanks(&counter.counts().counts, model);
      return counter.counts().counts;
    });
    if (ranks == 1) on_one_rank = counts;
    EXPECT_EQ(counts, on_one_rank) << ranks << " ranks";
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}),
              3 * 2 * 8 * run.model().sequence());
  }
}

TEST_F(InferenceTest, DistinctExpertsOfATokenAreCounted) {
  for (const int ranks : {1, 3}) {
    const auto vanilla = Run(Variant::kVanilla);
    const auto histogram = Look<std::vector<int64_t>>(vanilla, ranks, [&](InferenceModel& model) {
      DistinctCounter counter(vanilla);
      EXPECT_OK(MeasureTextLoss(*Text(vanilla), &counter, model));
      SumOverRanks(&counter.histogram(), model);
      return counter.histogram();
    });
    EXPECT_EQ(histogram, (std::vector<int64_t>{0, 0, 0, 8 * vanilla.model().sequence()}));
  }
}

// Three layers, top 2, one pool: the histogram recomputed from the expert ids of every token.
TEST_F(InferenceTest, DistinctExpertsAreThoseOfTheRoutes) {
  struct Routes : BatchHook {
    void OnBatch(const TokenBatch& batch) override { sets.resize(batch.tokens.size()); }
    void OnRouting(Context&, int, const Router::Saved& routing) override {
      for (int64_t i = 0; i < routing.ids.numel(); ++i) {
        sets[i / 2].insert(routing.ids.as<int32_t>()[i]);
      }
    }
    std::vector<std::set<int32_t>> sets;
  } routes;
  const config::Run run = Run(Variant::kUniPoolTop2);
  const auto histogram = Look<std::vector<int64_t>>(
      run, 1,
      [&](InferenceModel& model) {
        DistinctCounter counter(run);
        EXPECT_OK(MeasureTextLoss(*Text(run), &counter, model));
        EXPECT_OK(MeasureTextLoss(*Text(run), &routes, model));
        return counter.histogram();
      },
      8 * run.model().sequence());  // one batch
  std::vector<int64_t> expected(7, 0);
  for (const auto& set : routes.sets) ++expected[set.size()];
  EXPECT_EQ(histogram, expected);
}

TEST_F(InferenceTest, PartsOfTheTextAddUp) {
  const config::Run run = Run(Variant::kUniPool);
  const auto loss_of = [&](int64_t first, int64_t sequences) {
    return Look<double>(run, 1, [&](InferenceModel& model) {
      return MeasureTextLoss(*Text(run, {Split::kValidation, first, sequences}), nullptr, model)
          .value()
          .validation.loss;
    });
  };
  EXPECT_NEAR(loss_of(2, 6), (loss_of(2, 2) + 2 * loss_of(4, 4)) / 3, 1e-6);
}

TEST_F(InferenceTest, APartBeyondTheTextIsRefused) {
  const auto text = EvaluationText::Open(Run(Variant::kUniPool), {Split::kTest, 100000, 1});
  EXPECT_THAT(text.status().message(), ::testing::HasSubstr("test part has"));
}

TEST_F(InferenceTest, AllOfAnEndlessTextIsRefused) {
  config::Run run = Run(Variant::kUniPool);
  EXPECT_OK(EvaluationText::Open(run, {Split::kTest, 0, 0}).status());
  run.mutable_data()->set_order(config::Data::MEGATRON);
  EXPECT_STATUS(EvaluationText::Open(run, {Split::kTest, 0, 0}), kInvalidArgument,
                "--sequences 0: data.order = MEGATRON has no end; use --sequences 1 or more");
  run.mutable_data()->clear_order();
  run.mutable_data()->add_source()->set_prefix(prefix_);
  EXPECT_STATUS(EvaluationText::Open(run, {Split::kTest, 0, 0}), kInvalidArgument,
                "--sequences 0: a blend has no end; use --sequences 1 or more");
}

}  // namespace
}  // namespace unipool
