// Collectives between the processes that the launcher started.
#include <gtest/gtest.h>

#include "comm/mpi_communicator.h"
#include "tests/comm/collective_checks.h"

namespace unipool {
namespace {

using testing::CollectiveCheck;

class MpiCollective : public ::testing::TestWithParam<CollectiveCheck> {};

TEST_P(MpiCollective, HoldsOnEveryRank) {
  const auto world = CreateMpiWorld(absl::Seconds(40));
  GetParam().check(*world);
}

INSTANTIATE_TEST_SUITE_P(, MpiCollective, ::testing::ValuesIn(testing::CollectiveChecks()),
                         [](const ::testing::TestParamInfo<CollectiveCheck>& params) {
                           return params.param.claim;
                         });

TEST(MpiWorld, HasItsRankOnTheHost) {
  EXPECT_TRUE(LaunchedByMpi());
  const auto world = CreateMpiWorld(absl::Seconds(40));
  EXPECT_EQ(MpiLocalRank().rank, world->rank());
  EXPECT_EQ(MpiLocalRank().size, world->size());
}

}  // namespace
}  // namespace unipool
