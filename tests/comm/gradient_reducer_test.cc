#include "comm/gradient_reducer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "tests/support/on_ranks.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::OnRanksOwned;
using testing::ToVector;
using testing::Workbench;

// Runs `body(groups, bench)` on `ranks` ranks in groups of `expert_parallel`.
template <typename Body>
void OnGroups(int ranks, int expert_parallel, Body body) {
  OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> world) {
    const auto groups = ProcessGroups::Create(std::move(world), expert_parallel);
    Workbench bench;
    body(groups.value(), bench);
  });
}

// [start, start + 1, ...]: small integers, so every sum is exact.
Tensor Ramp(Workbench& bench, int64_t size, float start) {
  std::vector<float> values(size);
  for (int64_t i = 0; i < size; ++i) values[i] = start + static_cast<float>(i);
  return bench.Floats({size}, values);
}

TEST(GradientReducer, MyDenseShardIsTheSumOverAllRanks) {
  OnGroups(4, 2, [](const ProcessGroups& groups, Workbench& bench) {
    GradientReducer reducer(groups);
    const int rank = groups.world().rank();
    const Tensor dense = Ramp(bench, 12, 100.0f * static_cast<float>(rank));
    reducer.Reduce(bench.ctx(), dense, Tensor{});
    const Tensor shard = reducer.DenseShard(dense);
    EXPECT_EQ(shard.data, dense.as<float>() + 3 * rank);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(shard.as<float>()[i], 600 + 4 * static_cast<float>(3 * rank + i));
    }
  });
}

TEST(GradientReducer, ExpertGradientsAreSummedOverReplicasOnly) {
  OnGroups(4, 2, [](const ProcessGroups& groups, Workbench& bench) {
    const int position = groups.expert().rank();
    // Positions differ in size: the first owns one expert more.
    const Tensor expert = Ramp(bench, 5 - position, static_cast<float>(groups.world().rank()));
    GradientReducer(groups).Reduce(bench.ctx(), bench.Zeros({4}), expert);
    for (int i = 0; i < 5 - position; ++i) {
      EXPECT_EQ(expert.as<float>()[i], static_cast<float>(2 * position + 2 + 2 * i));
    }
  });
}

TEST(GradientReducer, GatherDenseCopiesEveryShard) {
  OnGroups(3, 0, [](const ProcessGroups& groups, Workbench& bench) {
    GradientReducer reducer(groups);
    const Tensor dense = bench.Poisoned({6}), expected = Ramp(bench, 6, 0);
    const Tensor shard = reducer.DenseShard(dense);
    for (int i = 0; i < 2; ++i) {
      shard.as<float>()[i] = static_cast<float>(2 * groups.world().rank() + i);
    }
    reducer.GatherDense(bench.ctx(), dense);
    EXPECT_EQ(ToVector(dense), ToVector(expected));
  });
}

// Dense gradients 1..8, expert gradients 10, 20, 30, 40 on one, two or four ranks.
TEST(GradientReducer, TheNormDoesNotDependOnTheGroups) {
  for (const int expert_parallel : {1, 2, 4}) {
    OnGroups(4, expert_parallel, [&](const ProcessGroups& groups, Workbench& bench) {
      const int64_t mine = 4 / expert_parallel;
      std::vector<float> experts;
      for (int64_t i = 0; i < mine; ++i) {
        experts.push_back(static_cast<float>(10 * (groups.expert().rank() * mine + i + 1)));
      }
      GradientReducer reducer(groups);
      const double norm =
          reducer.GlobalNorm(bench.ctx(), Ramp(bench, 8, 1), bench.Floats({mine}, experts));
      EXPECT_EQ(norm, std::sqrt(204.0 + 3000.0));
    });
  }
}

TEST(GradientReducer, TheNormAcceptsNoExpertsOrNoDenseGradients) {
  OnGroups(2, 2, [](const ProcessGroups& groups, Workbench& bench) {
    GradientReducer reducer(groups);
    EXPECT_EQ(reducer.GlobalNorm(bench.ctx(), bench.Floats({2}, {3, 4}), Tensor{}), 5);
    // Rank 1 owns no expert.
    const Tensor expert =
        groups.expert().rank() == 0 ? bench.Floats({2}, {6, 8}) : bench.Zeros({0});
    EXPECT_EQ(reducer.GlobalNorm(bench.ctx(), bench.Zeros({0}), expert), 10);
  });
}

}  // namespace
}  // namespace unipool
