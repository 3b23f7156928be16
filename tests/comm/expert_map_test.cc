#include "comm/expert_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ExpertMap, BlocksAreFloorOrCeilAndContiguous) {
  const ExpertMap map = ExpertMap::Blocks(7, 3);
  EXPECT_EQ(map.experts(), 7);
  EXPECT_EQ(map.ranks(), 3);
  EXPECT_THAT(map.owned(0), ElementsAre(0, 1, 2));
  EXPECT_THAT(map.owned(1), ElementsAre(3, 4));
  EXPECT_THAT(map.owned(2), ElementsAre(5, 6));
}

TEST(ExpertMap, TheRemainderStartsAtFirstRank) {
  const ExpertMap map = ExpertMap::Blocks(5, 3, 2);  // the larger ones go to ranks 2 and 0
  EXPECT_THAT(map.owned(0), ElementsAre(0, 1));
  EXPECT_THAT(map.owned(1), ElementsAre(2));
  EXPECT_THAT(map.owned(2), ElementsAre(3, 4));
}

TEST(ExpertMap, ARankMayOwnNothing) {
  const ExpertMap map = ExpertMap::Blocks(2, 4);
  EXPECT_THAT(map.owned(1), ElementsAre(1));
  EXPECT_THAT(map.owned(2), IsEmpty());
  EXPECT_THAT(map.owned(3), IsEmpty());
  EXPECT_EQ(map.first_order(3), 2);
}

TEST(ExpertMap, FromOwnersSortsByOwnerThenExpert) {
  const ExpertMap map = ExpertMap::FromOwners({2, 0, 2, 0, 1}, 3);
  EXPECT_THAT(map.owned(0), ElementsAre(1, 3));
  EXPECT_THAT(map.owned(2), ElementsAre(0, 2));
  EXPECT_EQ(map.owner(2), 2);
  EXPECT_EQ(map.slot(2), 1);
  EXPECT_EQ(map.order(1), 0);
  EXPECT_EQ(map.order(3), 1);
  EXPECT_EQ(map.order(4), 2);
  EXPECT_EQ(map.order(0), 3);
  EXPECT_EQ(map.order(2), 4);
  EXPECT_EQ(map.first_order(1), 2);
  EXPECT_EQ(map.first_order(2), 3);
}

TEST(ExpertMap, EveryExpertHasOneSlotForAllSizes) {
  for (int experts : {0, 1, 7, 288}) {
    for (int ranks : {1, 2, 7, 300}) {
      const ExpertMap map = ExpertMap::Blocks(experts, ranks, ranks / 2);
      for (int e = 0; e < experts; ++e) {
        EXPECT_EQ(map.owned(map.owner(e))[map.slot(e)], e);
        EXPECT_EQ(map.order(e), map.first_order(map.owner(e)) + map.slot(e));
      }
      for (int r = 0; r < ranks; ++r) {
        const int owned = static_cast<int>(map.owned(r).size());
        EXPECT_TRUE(owned == experts / ranks || owned == (experts + ranks - 1) / ranks) << owned;
      }
    }
  }
}

// Position of every expert in the order of outgoing rows.
std::vector<int32_t> SendOrder(const ExpertMap& map) {
  const auto stream = Stream::Create(Device{});
  const Tensor table = map.send_order_table(*stream);
  return {table.as<int32_t>(), table.as<int32_t>() + table.numel()};
}

TEST(ExpertMap, RowsLeaveByChunkThenOwnerThenSlot) {
  ExpertMap map = ExpertMap::Blocks(7, 3);  // slots 3, 2, 2
  map.SetChunks(2);
  EXPECT_EQ(map.chunks(), 2);
  EXPECT_EQ(map.first_slot(0, 1), 1);
  EXPECT_EQ(map.first_slot(0, 2), 3);
  EXPECT_EQ(map.first_slot(1, 1), 1);
  // Experts 0 | 3 | 5, then 1 2 | 4 | 6.
  EXPECT_THAT(SendOrder(map), ElementsAre(0, 3, 4, 1, 5, 2, 6));
  map.SetChunks(1);
  EXPECT_THAT(SendOrder(map), ElementsAre(0, 1, 2, 3, 4, 5, 6));
}

TEST(ExpertMap, HasNoMoreChunksThanARankHasExperts) {
  ExpertMap map = ExpertMap::Blocks(7, 3), single_rank = ExpertMap::Blocks(7, 1);
  map.SetChunks(100);
  EXPECT_EQ(map.chunks(), 3);
  EXPECT_EQ(map.first_slot(1, 1), 0);  // a chunk of a rank with fewer experts may be empty
  single_rank.SetChunks(100);
  EXPECT_EQ(single_rank.chunks(), 1);
  ExpertMap none = ExpertMap::Blocks(0, 4);
  none.SetChunks(2);
  EXPECT_EQ(none.chunks(), 1);
}

}  // namespace
}  // namespace unipool
