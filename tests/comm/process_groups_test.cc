#include "comm/process_groups.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using testing::OnRanksOwned;

TEST(ProcessGroups, RanksFormAGridOfReplicasAndPositions) {
  OnRanksOwned(6, [](std::unique_ptr<Communicator> world) {
    const int rank = world->rank();
    const auto groups = ProcessGroups::Create(std::move(world), 3);
    ASSERT_OK(groups);
    EXPECT_EQ(groups->world().rank(), rank);
    EXPECT_EQ(groups->world().size(), 6);
    EXPECT_EQ(groups->world().rank(), rank);
    EXPECT_EQ(groups->expert().size(), 3);
    EXPECT_EQ(groups->expert().rank(), rank % 3);
    EXPECT_EQ(groups->expert_data().size(), 2);
    EXPECT_EQ(groups->expert_data().rank(), rank / 3);
  });
}

TEST(ProcessGroups, ColumnsHoldTheSamePosition) {
  OnRanksOwned(4, [](std::unique_ptr<Communicator> world) {
    const int rank = world->rank();
    const auto groups = ProcessGroups::Create(std::move(world), 2);
    ASSERT_OK(groups);
    const auto stream = Stream::Create(Device{});
    int64_t row = 1 << rank, column = 1 << rank;
    groups->expert().AllReduce(Tensor::Of(&row, {1}), ReduceOp::kSum, *stream);
    groups->expert_data().AllReduce(Tensor::Of(&column, {1}), ReduceOp::kSum, *stream);
    EXPECT_EQ(row, rank < 2 ? 0b0011 : 0b1100);
    EXPECT_EQ(column, rank % 2 == 0 ? 0b0101 : 0b1010);
  });
}

TEST(ProcessGroups, ZeroMeansAllRanks) {
  OnRanksOwned(3, [](std::unique_ptr<Communicator> world) {
    const auto groups = ProcessGroups::Create(std::move(world), 0);
    ASSERT_OK(groups);
    EXPECT_EQ(groups->expert().size(), 3);
    EXPECT_EQ(groups->expert_data().size(), 1);
  });
}

TEST(ProcessGroups, ASizeThatDoesNotDivideIsRefused) {
  for (const int expert_parallel : {3, 8, -1}) {
    OnRanksOwned(4, [&](std::unique_ptr<Communicator> world) {
      EXPECT_STATUS(ProcessGroups::Create(std::move(world), expert_parallel), kInvalidArgument,
                    absl::StrCat("parallel.expert_parallel = ", expert_parallel,
                                 " does not divide 4 ranks; set it to one of 1, 2, 4, or to 0 for "
                                 "all ranks"));
    });
  }
}

}  // namespace
}  // namespace unipool
