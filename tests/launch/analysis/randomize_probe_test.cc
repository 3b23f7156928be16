// Random routes: their experts, their gates, and that they depend only on the settings.
#include "launch/analysis/randomize_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "tests/support/looking.h"
#include "tests/support/status_matchers.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::LookingTest;
using testing::Variant;
using testing::Workbench;

// Four tokens in two sequences, two experts of five each; expert e's score is e / 10.
struct Routed {
  Workbench bench;
  Router::Saved saved;
  TokenBatch batch{.sequence = 2, .ids = {10, 11}};

  Routed() {
    std::vector<float> scores;
    for (int t = 0; t < 4; ++t) {
      for (int e = 0; e < 5; ++e) scores.push_back(0.1f * e);
    }
    saved.scores = bench.Floats({4, 5}, scores);
    saved.ids = bench.Ints({4, 2}, {0, 1, 0, 1, 0, 1, 0, 1});
    saved.gates = bench.Floats({4, 2}, {7, 6, 7, 6, 7, 6, 7, 6});
  }

  std::vector<int32_t> Ids() const {
    return {saved.ids.as<int32_t>(), saved.ids.as<int32_t>() + 8};
  }

  void Randomize(const RandomRouteSettings& settings, std::vector<int32_t> experts) {
    RandomRoutes hook(settings, 3, std::move(experts));
    hook.OnBatch(batch);
    hook.OnRouting(bench.ctx(), 3, saved);
  }
};

TEST(RandomRoutes, DrawsDistinctExpertsOfTheGivenOnes) {
  std::set<int32_t> seen;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Routed routed;
    routed.Randomize({.seed = seed}, {1, 2, 4});
    const std::vector<int32_t> ids = routed.Ids();
    for (int t = 0; t < 4; ++t) EXPECT_NE(ids[2 * t], ids[2 * t + 1]);
    seen.insert(ids.begin(), ids.end());
  }
  EXPECT_THAT(seen, ElementsAre(1, 2, 4));
}

TEST(RandomRoutes, AreUniform) {
  std::vector<int> counts(5, 0);
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Routed routed;
    routed.Randomize({.seed = seed}, {0, 1, 2, 3, 4});
    for (const int32_t id : routed.Ids()) ++counts[id];
  }
  for (const int count : counts) EXPECT_NEAR(count, 3200, 200);  // 4 standard deviations
}

TEST(RandomRoutes, OtherLayersAreNotChanged) {
  Routed routed;
  RandomRoutes hook({}, 2, {2, 3, 4});
  hook.OnBatch(routed.batch);
  hook.OnRouting(routed.bench.ctx(), 3, routed.saved);
  EXPECT_THAT(routed.Ids(), ElementsAre(0, 1, 0, 1, 0, 1, 0, 1));
}

TEST(RandomRoutes, GatesFollowTheSetting) {
  using Gate = RandomRouteSettings::Gate;
  for (const Gate gate : {Gate::kOriginal, Gate::kOwn, Gate::kOne}) {
    Routed routed;
    routed.Randomize({.gate = gate, .seed = 3}, {1, 2, 3, 4});
    for (int i = 0; i < 8; ++i) {
      const float own = 0.1f * static_cast<float>(routed.Ids()[i]);
      const float expected = gate == Gate::kOwn ? own : gate == Gate::kOne ? 1 : 7 - i % 2;
      EXPECT_FLOAT_EQ(routed.saved.gates.as<float>()[i], expected);
    }
  }
}

TEST(RandomRoutes, ADrawPerSequenceIsTheSameForItsTokens) {
  Routed routed;
  routed.Randomize({.draw = RandomRouteSettings::Draw::kSequence, .seed = 5}, {0, 1, 2, 3, 4});
  const std::vector<int32_t> ids = routed.Ids();
  EXPECT_EQ(ids[0], ids[2]);
  EXPECT_EQ(ids[1], ids[3]);
  EXPECT_EQ(ids[4], ids[6]);
}

TEST(RandomRoutes, DependOnTheSequenceNotTheBatch) {
  Routed together, apart;
  together.Randomize({.seed = 9}, {0, 1, 2, 3, 4});
  apart.batch.ids = {11, 10};
  apart.Randomize({.seed = 9}, {0, 1, 2, 3, 4});
  const std::vector<int32_t> a = together.Ids(), b = apart.Ids();
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 4, b.begin() + 4));
  EXPECT_TRUE(std::equal(a.begin() + 4, a.end(), b.begin()));
}

TEST(ParseLayers, NamesLayers) {
  EXPECT_THAT(ParseLayers("deep", 12).value(), ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_THAT(ParseLayers("deep", 3).value(), ElementsAre(1, 2));
  EXPECT_THAT(ParseLayers("all", 2).value(), ElementsAre(0, 1));
  EXPECT_THAT(ParseLayers("3,0-1", 4).value(), ElementsAre(0, 1, 3));
  for (const char* bad : {"4", "", "2-1", "1-2-3", "-1", "half"}) {
    EXPECT_THAT(ParseLayers(bad, 4).status().message(), HasSubstr("from 0 to 3")) << bad;
  }
}

class RandomizeTest : public LookingTest {
 protected:
  // Losses: of the baseline, of each layer of `full`, of each layer of `matched`.
  std::vector<double> Losses(const config::Run& run, const RandomizeSettings& settings,
                             int ranks) const {
    return Look<std::vector<double>>(run, ranks, [&](InferenceModel& model) {
      const auto text = Text(run, {Split::kValidation, 4, 8});
      const auto selection_text = Text(run, {Split::kValidation, 0, 4});
      const auto report = RunRandomize(settings, selection_text.get(), {.text = text.get()}, model);
      EXPECT_OK(report);
      std::vector<double> losses = {report->baseline.text->validation.loss};
      for (const auto* layers : {&report->full, &report->matched}) {
        for (const RandomizedLayer& layer : *layers) {
          losses.push_back(layer.measured.text->validation.loss);
        }
      }
      return losses;
    });
  }
};

TEST_F(RandomizeTest, DependsOnTheSeedAndNotOnTheRanks) {
  const config::Run run = Run(Variant::kUniPoolTop2);
  RandomizeSettings settings{.layers = {1, 2}, .routes = {.seed = 1}, .matched = 3};
  const std::vector<double> on_one_rank = Losses(run, settings, 1);
  ASSERT_EQ(on_one_rank.size(), 5u);
  EXPECT_EQ(Losses(run, settings, 1), on_one_rank);
  for (const int ranks : {2, 3}) {
    EXPECT_THAT(Losses(run, settings, ranks),
                ::testing::Pointwise(::testing::DoubleNear(1e-6), on_one_rank));
  }
  settings.routes.seed = 2;
  const std::vector<double> other = Losses(run, settings, 1);
  EXPECT_EQ(other[0], on_one_rank[0]);
  for (int i = 1; i < 5; ++i) EXPECT_NE(other[i], on_one_rank[i]);
}

TEST_F(RandomizeTest, PrivateExpertsAreDrawnFromTheirLayersOnly) {
  RandomizeSettings settings{.layers = {1, 2}, .routes = {}, .matched = 8};
  const std::vector<double> losses = Losses(Run(Variant::kVanilla), settings, 2);
  EXPECT_EQ(losses.size(), 3u) << "the pool has 7 experts, fewer than `matched`";
}

// The matched experts of a layer are the most used ones of the same text.
TEST_F(RandomizeTest, MatchedExpertsAreTheMostUsedOnes) {
  const config::Run run = Run(Variant::kUniPool);
  const auto text = Text(run);
  const auto experts = Look<std::vector<int32_t>>(run, 2, [&](InferenceModel& model) {
    RandomizeSettings settings{.layers = {1}, .routes = {}, .matched = 2};
    return RunRandomize(settings, text.get(), {.text = text.get()}, model)->matched[0].experts;
  });
  const auto counts = Look<RouteCounts>(run, 1, [&](InferenceModel& model) {
    RouteCounter counter(run);
    EXPECT_OK(MeasureTextLoss(*text, &counter, model));
    return counter.counts();
  });
  EXPECT_EQ(experts, TopExperts(counts, 1, 2));
}

TEST(MeanChange, IsTheMeanDifferenceFromTheBaseline) {
  const auto measured = [](double loss, double accuracy) {
    Measurement measurement;
    measurement.text = TextLoss{.validation = {loss, {}}, .tokens = 1};
    measurement.tasks.resize(1);
    measurement.tasks[0].accuracy.share = accuracy;
    return measurement;
  };
  const std::vector<RandomizedLayer> layers = {{1, {}, measured(3, 0.5)},
                                               {2, {}, measured(4, 0.7)}};
  const RandomizeMeans means = MeanChange(measured(2, 0.9), layers);
  EXPECT_DOUBLE_EQ(means.loss, 1.5);
  EXPECT_NEAR(means.tasks[0].accuracy, -0.3, 1e-12);
}

}  // namespace
}  // namespace unipool
