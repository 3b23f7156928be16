// Statistics of routes against numbers computed by hand.
#include "launch/analysis/routing_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace unipool {
namespace {

using ::testing::ElementsAre;

// Two layers over one pool of four experts; expert 3 is unused.
RouteCounts Shared() {
  return {.layers = 2,
          .pools = 1,
          .experts = 4,
          .top_k = 1,
          .counts = {4, 2, 2, 0,  //
                     0, 6, 2, 0}};
}

// The same routes as three layers of private experts, two each.
RouteCounts Private() {
  return {.layers = 3,
          .pools = 3,
          .experts = 2,
          .top_k = 1,
          .counts = {3, 1, 0, 0, 0, 0,  //
                     0, 0, 2, 2, 0, 0,  //
                     0, 0, 0, 0, 0, 4}};
}

TEST(RoutingReport, FrequenciesAndAggregateAreShares) {
  const RoutingReport report = ReportRouting(Shared());
  EXPECT_THAT(report.frequencies, ElementsAre(0.5, 0.25, 0.25, 0, 0, 0.75, 0.25, 0));
  EXPECT_THAT(report.aggregate, ElementsAre(0.25, 0.5, 0.25, 0));
  EXPECT_EQ(report.unused_experts, 1);
}

TEST(RoutingReport, EntropiesAreInBits) {
  const RoutingReport report = ReportRouting(Shared());
  ASSERT_EQ(report.entropy_bits.size(), 2u);
  EXPECT_NEAR(report.entropy_bits[0], 1.5, 1e-12);
  EXPECT_NEAR(report.entropy_bits[1], 0.75 * std::log2(4.0 / 3) + 0.25 * 2, 1e-12);
  EXPECT_NEAR(report.aggregate_entropy_bits, 1.5, 1e-12);
}

TEST(RoutingReport, TopSetsUniteAndCover) {
  const RoutingReport report = ReportRouting(Shared());
  ASSERT_EQ(report.top_sets.size(), 3u) << "k = 1, 2, 3";
  const TopSets& one = report.top_sets[0];  // the sets {0} and {1}
  EXPECT_EQ(one.k, 1);
  EXPECT_EQ(one.union_size, 2);
  EXPECT_DOUBLE_EQ(one.union_share, 0.5);
  EXPECT_DOUBLE_EQ(one.saturation, 1);
  EXPECT_DOUBLE_EQ(one.weighted_coverage, 10.0 / 16);
  EXPECT_DOUBLE_EQ(one.mean_coverage, 0.625);
  EXPECT_DOUBLE_EQ(one.least_coverage, 0.5);
  EXPECT_DOUBLE_EQ(one.median_coverage, 0.625);
  EXPECT_DOUBLE_EQ(one.max_coverage, 0.75);
  const TopSets& three = report.top_sets[2];  // {0, 1, 2} and {1, 2, 0}: on ties the lowest expert
  EXPECT_EQ(three.k, 3);
  EXPECT_EQ(three.union_size, 3);
  EXPECT_DOUBLE_EQ(three.saturation, 0.75);
  EXPECT_DOUBLE_EQ(three.least_coverage, 1);
}

TEST(RoutingReport, TopExpertsPreferTheLowestOnTies) {
  EXPECT_THAT(TopExperts(Shared(), 0, 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(TopExperts(Shared(), 1, 4), ElementsAre(1, 2, 0, 3));
  EXPECT_THAT(TopExperts(Private(), 1, 8), ElementsAre(2, 3));
}

TEST(RoutingReport, WeightedCoverageWeighsLayersByRoutes) {
  RouteCounts counts = Shared();
  counts.counts = {1, 0, 0, 1, 6, 0, 0, 0};
  const TopSets one = ReportRouting(counts).top_sets[0];
  EXPECT_DOUBLE_EQ(one.weighted_coverage, 7.0 / 8);
  EXPECT_DOUBLE_EQ(one.mean_coverage, 0.75);
}

TEST(RoutingReport, JaccardComparesTopSixteen) {
  RouteCounts counts{.layers = 2, .pools = 1, .experts = 20, .top_k = 1, .counts = {}};
  for (int e = 0; e < 20; ++e) counts.counts.push_back(e < 16 ? 1 : 0);  // {0 .. 15}
  for (int e = 0; e < 20; ++e) counts.counts.push_back(e >= 4 ? 1 : 0);  // {4 .. 19}
  const RoutingReport report = ReportRouting(counts);
  EXPECT_DOUBLE_EQ(report.mean_jaccard, 12.0 / 20);
  EXPECT_THAT(report.jaccard, ElementsAre(1, 0.6, 0.6, 1));
  EXPECT_THAT(report.top16_coverage, ElementsAre(1, 1));
}

TEST(RoutingReport, PrivateExpertsAreNotShared) {
  const RoutingReport report = ReportRouting(Private());
  EXPECT_EQ(report.mean_jaccard, 0);
  EXPECT_EQ(report.unused_experts, 1);
  EXPECT_NEAR(report.entropy_bits[1], 1, 1e-12);
  EXPECT_NEAR(report.entropy_bits[2], 0, 1e-12);
  ASSERT_EQ(report.top_sets.size(), 2u);
  EXPECT_EQ(report.top_sets[1].union_size, 6);
  EXPECT_DOUBLE_EQ(report.top_sets[1].saturation, 1);
}

TEST(RoutingReport, HandlesZeroRoutes) {
  RouteCounts counts = Shared();
  counts.counts.assign(8, 0);
  const RoutingReport report = ReportRouting(counts);
  EXPECT_THAT(report.aggregate, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(report.unused_experts, 4);
}

TEST(DistinctExpertsByChance, FollowsTheFormula) {
  EXPECT_NEAR(DistinctExpertsByChance(12, 1, 96, 1), 96 * (1 - std::pow(95.0 / 96, 12)), 1e-12);
  EXPECT_NEAR(DistinctExpertsByChance(12, 12, 8, 1), 12, 1e-12) << "vanilla: one expert per layer";
  EXPECT_NEAR(DistinctExpertsByChance(2, 1, 4, 2), 3, 1e-12);
}

}  // namespace
}  // namespace unipool
