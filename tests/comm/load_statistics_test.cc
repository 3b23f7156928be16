#include "comm/load_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "tests/support/on_ranks.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::OnRanks;
using testing::Workbench;

// Layers 0 and 1 share pool 0 of three experts; layer 2 uses pool 1 of two experts.
std::unique_ptr<LoadStatistics> TwoPools() {
  return LoadStatistics::Create({0, 0, 1}, {3, 2}, Device{}).value();
}

std::vector<int64_t> Values(const Tensor& counts) {
  return {counts.as<int64_t>(), counts.as<int64_t>() + counts.numel()};
}

void Add(LoadStatistics& statistics, int layer, const std::vector<int64_t>& counts) {
  int64_t* to = statistics.counts(layer).as<int64_t>();
  for (size_t e = 0; e < counts.size(); ++e) to[e] += counts[e];
}

// Runs a step of two micro-batches.
void FinishOneStep(LoadStatistics& statistics, Communicator& comm) {
  Workbench bench;
  Add(statistics, 0, {4, 0, 0});
  Add(statistics, 1, {0, 1, 3});
  Add(statistics, 2, {1, 1});
  statistics.FinishMicroBatch(bench.ctx(), 5);
  Add(statistics, 2, {comm.rank(), 0});
  statistics.FinishMicroBatch(bench.ctx(), comm.rank());
  statistics.FinishStep(bench.ctx(), comm);
}

TEST(LoadStatistics, CountsAreSummedOverRanksAndMicroBatches) {
  OnRanks(3, [](Communicator& comm) {
    const auto owned = TwoPools();
    LoadStatistics& statistics = *owned;
    FinishOneStep(statistics, comm);
    EXPECT_THAT(statistics.previous(0), ElementsAre(12, 0, 0));
    EXPECT_THAT(statistics.previous(1), ElementsAre(0, 3, 9));
    EXPECT_THAT(statistics.previous(2), ElementsAre(6, 3));
  });
}

TEST(LoadStatistics, TheNextStepStartsFromZero) {
  OnRanks(2, [](Communicator& comm) {
    const auto owned = TwoPools();
    LoadStatistics& statistics = *owned;
    FinishOneStep(statistics, comm);
    FinishOneStep(statistics, comm);
    EXPECT_THAT(statistics.previous(1), ElementsAre(0, 2, 6));
  });
}

TEST(LoadStatistics, SharesAndImbalanceByHand) {
  OnRanks(1, [](Communicator& comm) {
    const auto owned = TwoPools();
    LoadStatistics& statistics = *owned;
    FinishOneStep(statistics, comm);
    double layer[3], pool[3], other_pool[2];
    statistics.LayerShares(1, layer);
    EXPECT_THAT(layer, ElementsAre(0, 0.25, 0.75));
    statistics.PoolShares(0, pool);
    EXPECT_THAT(pool, ElementsAre(0.5, 0.125, 0.375));
    statistics.PoolShares(1, other_pool);
    EXPECT_THAT(other_pool, ElementsAre(0.5, 0.5));
    EXPECT_DOUBLE_EQ(statistics.LayerImbalance(), (3 + 2.25 + 1) / 3);
    EXPECT_DOUBLE_EQ(statistics.PoolImbalance(), (1.5 + 1) / 2);
  });
}

// The choices that are not sent count in the shares, but are no load.
TEST(LoadStatistics, UnroutedChoicesAreNoLoad) {
  OnRanks(2, [](Communicator& comm) {
    const auto owned = TwoPools(), other = TwoPools();
    LoadStatistics& statistics = *owned;
    for (const auto& [layer, expert, unrouted] : {std::array{0, 0, 3}, {1, 2, 1}, {2, 0, 1}}) {
      statistics.unrouted_choices(layer).as<int64_t>()[expert] += unrouted;
    }
    FinishOneStep(statistics, comm);
    EXPECT_THAT(statistics.previous(0), ElementsAre(8, 0, 0));
    EXPECT_THAT(statistics.previous_unrouted_choices(0), ElementsAre(6, 0, 0));
    EXPECT_THAT(statistics.previous_unrouted_choices(1), ElementsAre(0, 0, 2));
    EXPECT_EQ(statistics.previous_load(0, 0), 2);
    double pool[3];
    statistics.PoolShares(0, pool);
    EXPECT_THAT(pool, ElementsAre(0.5, 0.125, 0.375));
    EXPECT_DOUBLE_EQ(statistics.LayerImbalance(), (3 + 2 + 4 / 3.0) / 3);
    EXPECT_DOUBLE_EQ(statistics.PoolImbalance(), (1.5 + 4 / 3.0) / 2);
    other->Restore({.step = statistics.step_state(),
                    .step_unrouted_choices = statistics.step_unrouted_choices()});
    EXPECT_EQ(other->PoolImbalance(), statistics.PoolImbalance());
    other->Restore({.step = statistics.step_state()});
    EXPECT_DOUBLE_EQ(other->PoolImbalance(), (1.5 + 1.2) / 2);
  });
}

TEST(LoadStatistics, ALayerWithoutTokensIsBalanced) {
  OnRanks(1, [](Communicator& comm) {
    Workbench bench;
    const auto owned = TwoPools();
    LoadStatistics& statistics = *owned;
    statistics.FinishStep(bench.ctx(), comm);
    double shares[2];
    statistics.LayerShares(2, shares);
    EXPECT_THAT(shares, ElementsAre(0.5, 0.5));
    EXPECT_EQ(statistics.LayerImbalance(), 1);
    EXPECT_EQ(statistics.PoolImbalance(), 1);
  });
}

TEST(LoadStatistics, TheCurrentMicroBatchIsSeparateFromThePrevious) {
  Workbench bench;
  const auto owned = TwoPools();
  LoadStatistics& statistics = *owned;
  EXPECT_FALSE(statistics.has_previous_micro_batch());
  Add(statistics, 0, {3, 1, 0});
  Add(statistics, 1, {0, 1, 3});
  statistics.FinishMicroBatch(bench.ctx(), 4);
  EXPECT_THAT(Values(statistics.counts(1)), ElementsAre(0, 0, 0));
  Add(statistics, 1, {1, 1, 0});
  EXPECT_THAT(Values(statistics.counts(1)), ElementsAre(1, 1, 0));
  EXPECT_THAT(Values(statistics.previous_micro_batch(0)), ElementsAre(3, 1, 0, 0, 1, 3));
  EXPECT_EQ(statistics.previous_micro_batch(1).dim(1), 2);
}

// It stays across a step and across a micro-batch without tokens.
TEST(LoadStatistics, ThePreviousMicroBatchStaysUntilAnotherIsCounted) {
  OnRanks(2, [](Communicator& comm) {
    Workbench bench;
    const auto owned = TwoPools();
    LoadStatistics& statistics = *owned;
    FinishOneStep(statistics, comm);
    statistics.FinishMicroBatch(bench.ctx(), 0);
    statistics.FinishStep(bench.ctx(), comm);
    // The last micro-batch of the other rank had tokens in the other pool alone.
    const std::vector<int64_t> expected[] = {{4, 0, 0, 0, 1, 3}, {0, 0, 0, 0, 0, 0}};
    EXPECT_THAT(Values(statistics.previous_micro_batch(0)),
                ElementsAreArray(expected[comm.rank()]));
  });
}

TEST(LoadStatistics, RestoreGivesTheStateOfTheNextStep) {
  OnRanks(2, [](Communicator& comm) {
    const auto owned = TwoPools(), other = TwoPools();
    LoadStatistics &before = *owned, &after = *other;
    EXPECT_TRUE(before.step_state().empty());
    EXPECT_TRUE(before.micro_batch_state().empty());
    FinishOneStep(before, comm);
    after.Restore({.step = before.step_state(),
                   .micro_batch = before.micro_batch_state(),
                   .step_unrouted_choices = before.step_unrouted_choices()});
    EXPECT_THAT(after.step_state(), ElementsAre(8, 0, 0, 0, 2, 6, 3, 2, 0));
    EXPECT_EQ(after.micro_batch_state(), before.micro_batch_state());
    EXPECT_EQ(after.PoolImbalance(), before.PoolImbalance());
    FinishOneStep(after, comm);
    EXPECT_THAT(after.previous(0), ElementsAre(8, 0, 0));
    after.Restore({});
    EXPECT_FALSE(after.has_previous());
    EXPECT_FALSE(after.has_previous_micro_batch());
  });
}

TEST(LoadStatistics, HasNoCountsBeforeTheFirstStep) {
  const auto statistics = TwoPools();
  EXPECT_FALSE(statistics->has_previous());
  EXPECT_EQ(statistics->LayerImbalance(), 0);
  EXPECT_EQ(statistics->PoolImbalance(), 0);
}

TEST(LoadStatistics, UnroutedTokensAreSummedOverRanksAndClearedEachStep) {
  testing::OnRanks(3, [](Communicator& comm) {
    testing::Workbench bench;
    const auto statistics = LoadStatistics::Create({0, 0}, {2}, Device{}).value();
    for (const int64_t expected : {1 + 2 + 3, 0}) {
      if (expected > 0) *statistics->unrouted().as<int64_t>() += comm.rank() + 1;
      statistics->FinishMicroBatch(bench.ctx(), 4);
      statistics->FinishStep(bench.ctx(), comm);
      EXPECT_EQ(statistics->previous_unrouted(), expected);
    }
  });
}

}  // namespace
}  // namespace unipool
