#include "comm/load_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/on_ranks.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::OnRanks;
using testing::Workbench;

// Layers 0 and 1 share pool 0 of three experts; layer 2 has pool 1 of two.
LoadStatistics TwoPools() { return LoadStatistics({0, 0, 1}, {3, 2}); }

void Add(LoadStatistics& statistics, int layer, const std::vector<int64_t>& counts) {
  int64_t* to = statistics.counts(layer).as<int64_t>();
  for (size_t e = 0; e < counts.size(); ++e) to[e] += counts[e];
}

// Two micro-batches.
void FinishOneStep(LoadStatistics& statistics, Communicator& comm) {
  Workbench bench;
  Add(statistics, 0, {4, 0, 0});
  Add(statistics, 1, {0, 1, 3});
  Add(statistics, 2, {1, 1});
  statistics.FinishMicroBatch();
  Add(statistics, 2, {comm.rank(), 0});
  statistics.FinishMicroBatch();
  statistics.FinishStep(bench.ctx(), comm);
}

TEST(LoadStatistics, CountsAreSummedOverRanksAndMicroBatches) {
  OnRanks(3, [](Communicator& comm) {
    LoadStatistics statistics = TwoPools();
    FinishOneStep(statistics, comm);
    EXPECT_THAT(statistics.previous(0), ElementsAre(12, 0, 0));
    EXPECT_THAT(statistics.previous(1), ElementsAre(0, 3, 9));
    EXPECT_THAT(statistics.previous(2), ElementsAre(6, 3));
  });
}

TEST(LoadStatistics, TheNextStepStartsFromZero) {
  OnRanks(2, [](Communicator& comm) {
    LoadStatistics statistics = TwoPools();
    FinishOneStep(statistics, comm);
    FinishOneStep(statistics, comm);
    EXPECT_THAT(statistics.previous(1), ElementsAre(0, 2, 6));
  });
}

TEST(LoadStatistics, SharesAndImbalanceByHand) {
  OnRanks(1, [](Communicator& comm) {
    LoadStatistics statistics = TwoPools();
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

TEST(LoadStatistics, ALayerWithoutTokensIsBalanced) {
  OnRanks(1, [](Communicator& comm) {
    Workbench bench;
    LoadStatistics statistics = TwoPools();
    statistics.FinishStep(bench.ctx(), comm);
    double shares[2];
    statistics.LayerShares(2, shares);
    EXPECT_THAT(shares, ElementsAre(0.5, 0.5));
    EXPECT_EQ(statistics.LayerImbalance(), 1);
    EXPECT_EQ(statistics.PoolImbalance(), 1);
  });
}

TEST(LoadStatistics, TheMicroBatchUnderWayIsKeptApartFromTheOneBefore) {
  LoadStatistics statistics = TwoPools();
  double layer[3], pool[3];
  EXPECT_FALSE(statistics.has_previous_micro_batch());
  Add(statistics, 0, {3, 1, 0});
  Add(statistics, 1, {0, 1, 3});
  statistics.MicroBatchShares(1, layer);
  EXPECT_THAT(layer, ElementsAre(0, 0.25, 0.75));
  statistics.FinishMicroBatch();
  Add(statistics, 1, {1, 1, 0});
  statistics.MicroBatchShares(1, layer);
  EXPECT_THAT(layer, ElementsAre(0.5, 0.5, 0));
  statistics.PreviousMicroBatchShares(0, pool);
  EXPECT_THAT(pool, ElementsAre(0.375, 0.25, 0.375));
}

// Also into the next step, and past a rank's micro-batch without tokens.
TEST(LoadStatistics, ThePreviousMicroBatchStaysUntilAnotherIsCounted) {
  OnRanks(2, [](Communicator& comm) {
    Workbench bench;
    LoadStatistics statistics = TwoPools();
    FinishOneStep(statistics, comm);
    statistics.FinishMicroBatch();
    statistics.FinishStep(bench.ctx(), comm);
    double pool[3];
    statistics.PreviousMicroBatchShares(0, pool);
    // The last micro-batch of the other rank had tokens in the other pool alone.
    const std::vector<double> expected[] = {{0.5, 0.125, 0.375}, {1.0 / 3, 1.0 / 3, 1.0 / 3}};
    EXPECT_THAT(pool, ElementsAreArray(expected[comm.rank()]));
  });
}

TEST(LoadStatistics, StateIsAllThatTheNextStepNeeds) {
  OnRanks(2, [](Communicator& comm) {
    LoadStatistics before = TwoPools(), after = TwoPools();
    EXPECT_TRUE(before.step_state().empty());
    EXPECT_TRUE(before.micro_batch_state().empty());
    FinishOneStep(before, comm);
    after.Restore(before.step_state(), before.micro_batch_state());
    EXPECT_THAT(after.step_state(), ElementsAre(8, 0, 0, 0, 2, 6, 3, 2, 0));
    EXPECT_EQ(after.micro_batch_state(), before.micro_batch_state());
    EXPECT_EQ(after.PoolImbalance(), before.PoolImbalance());
    FinishOneStep(after, comm);
    EXPECT_THAT(after.previous(0), ElementsAre(8, 0, 0));
    after.Restore({}, {});
    EXPECT_FALSE(after.has_previous());
    EXPECT_FALSE(after.has_previous_micro_batch());
  });
}

TEST(LoadStatistics, NothingIsKnownBeforeTheFirstStep) {
  const LoadStatistics statistics = TwoPools();
  EXPECT_FALSE(statistics.has_previous());
  EXPECT_EQ(statistics.LayerImbalance(), 0);
  EXPECT_EQ(statistics.PoolImbalance(), 0);
}

TEST(LoadStatistics, UnroutedTokensAreSummedOverRanksAndClearedEachStep) {
  testing::OnRanks(3, [](Communicator& comm) {
    testing::Workbench bench;
    LoadStatistics statistics({0, 0}, {2});
    for (const int64_t expected : {1 + 2 + 3, 0}) {
      if (expected > 0) *statistics.unrouted().as<int64_t>() += comm.rank() + 1;
      statistics.FinishMicroBatch();
      statistics.FinishStep(bench.ctx(), comm);
      EXPECT_EQ(statistics.previous_unrouted(), expected);
    }
  });
}

}  // namespace
}  // namespace unipool
