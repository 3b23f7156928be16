#include "runtime/ops/expert_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using testing::Workbench;

template <typename T>
std::vector<T> Values(const Tensor& tensor) {
  return {tensor.as<T>(), tensor.as<T>() + tensor.numel()};
}

SortByExpert Sort(Workbench& bench, Tensor ids, const std::vector<int32_t>& order,
                  const std::vector<int32_t>& count_order, Tensor gates = Tensor{}) {
  const auto experts = static_cast<int64_t>(order.size());
  const std::vector<int32_t> bad(static_cast<size_t>(ids.numel()), -7);
  const SortByExpert op{.ids = ids,
                        .gates = gates,
                        .order = bench.Ints({experts}, order),
                        .count_order = bench.Ints({experts}, count_order),
                        .counts = bench.Longs({experts}, std::vector<int64_t>(order.size(), -1)),
                        .send_index = bench.Ints({ids.numel()}, bad),
                        .positions = bench.Ints({ids.dim(0), ids.dim(1)}, bad)};
  Compute(bench.ctx(), op);
  return op;
}

TEST(SortByExpert, IsStableInTokenAndChoice) {
  Workbench bench;
  const SortByExpert op =
      Sort(bench, bench.Ints({4, 2}, {2, 0, 0, 1, 2, 1, 0, 2}), {1, 2, 0}, {0, 2, 1});
  EXPECT_THAT(Values<int64_t>(op.counts), ElementsAre(3, 3, 2));  // of experts 0, 2, 1
  EXPECT_THAT(Values<int32_t>(op.send_index), ElementsAre(0, 2, 3, 0, 1, 3, 1, 2));
  EXPECT_THAT(Values<int32_t>(op.positions), ElementsAre(0, 3, 4, 6, 1, 7, 5, 2));
}

TEST(SortByExpert, OneExpertMayGetEveryTokenAndOthersNone) {
  Workbench bench;
  const SortByExpert op = Sort(bench, bench.Ints({3, 1}, {1, 1, 1}), {0, 1, 2}, {0, 1, 2});
  EXPECT_THAT(Values<int64_t>(op.counts), ElementsAre(0, 3, 0));
  EXPECT_THAT(Values<int32_t>(op.positions), ElementsAre(0, 1, 2));
}

TEST(SortByExpert, WithoutTokensEveryCountIsZero) {
  Workbench bench;
  const SortByExpert op = Sort(bench, bench.Ints({0, 3}, {}), {2, 1, 0}, {0, 1, 2});
  EXPECT_THAT(Values<int64_t>(op.counts), ElementsAre(0, 0, 0));
}

TEST(SortByExpert, APairWhoseGateIsZeroHasNoRow) {
  Workbench bench;
  const Tensor gates = bench.Floats({4, 2}, {1, 0, 0, -0.0f, 2, -3, 0, 4});
  const SortByExpert op =
      Sort(bench, bench.Ints({4, 2}, {2, 0, 0, 1, 2, 1, 0, 2}), {1, 2, 0}, {0, 2, 1}, gates);
  EXPECT_THAT(Values<int64_t>(op.counts), ElementsAre(0, 3, 1));  // of experts 0, 2, 1
  EXPECT_THAT(Values<int32_t>(op.send_index), ElementsAre(0, 2, 3, 2, -1, -1, -1, -1));
  EXPECT_THAT(Values<int32_t>(op.positions), ElementsAre(0, -1, -1, -1, 1, 3, -1, 2));
}

TEST(SortByExpert, AllGatesMayBeZeroOrNone) {
  Workbench bench;
  const Tensor ids = bench.Ints({2, 1}, {1, 0});
  const SortByExpert none = Sort(bench, ids, {0, 1}, {0, 1}, bench.Floats({2, 1}, {0, 0}));
  EXPECT_THAT(Values<int64_t>(none.counts), ElementsAre(0, 0));
  EXPECT_THAT(Values<int32_t>(none.send_index), ElementsAre(-1, -1));
  EXPECT_THAT(Values<int32_t>(none.positions), ElementsAre(-1, -1));
  const SortByExpert all = Sort(bench, ids, {0, 1}, {0, 1}, bench.Floats({2, 1}, {1, NAN}));
  EXPECT_THAT(Values<int32_t>(all.send_index), ElementsAre(1, 0));
}

TEST(SortByExpertDeathTest, NamesAnIdThatIsNoExpert) {
  Workbench bench;
  EXPECT_DEATH(Sort(bench, bench.Ints({2, 1}, {1, 3}), {0, 1, 2}, {0, 1, 2}), "id 3 at position 1");
}

OrderArrivals Arrive(Workbench& bench, Tensor counts, int64_t rows, int64_t chunks = 1) {
  const std::vector<int32_t> bad(static_cast<size_t>(rows), -1);
  const std::vector<int64_t> worse(static_cast<size_t>(counts.dim(1) + 1), -1);
  const OrderArrivals op{.counts = counts,
                         .chunks = chunks,
                         .offsets = bench.Longs({counts.dim(1) + 1}, worse),
                         .to_slot_order = bench.Ints({rows}, bad),
                         .to_arrival_order = bench.Ints({rows}, bad)};
  Compute(bench.ctx(), op);
  return op;
}

TEST(OrderArrivals, SortsBySlotThenSource) {
  Workbench bench;
  const OrderArrivals op = Arrive(bench, bench.Longs({2, 3}, {2, 0, 1, 1, 2, 0}), 6);
  EXPECT_THAT(Values<int64_t>(op.offsets), ElementsAre(0, 3, 5, 6));
  EXPECT_THAT(Values<int32_t>(op.to_slot_order), ElementsAre(0, 1, 3, 4, 5, 2));
  EXPECT_THAT(Values<int32_t>(op.to_arrival_order), ElementsAre(0, 1, 5, 2, 3, 4));
}

// Slot 0 comes first, from both sources; then slots 1 and 2.
TEST(OrderArrivals, KeepsChunksTogether) {
  Workbench bench;
  const OrderArrivals op = Arrive(bench, bench.Longs({2, 3}, {2, 0, 1, 1, 2, 0}), 6, 2);
  EXPECT_THAT(Values<int64_t>(op.offsets), ElementsAre(0, 3, 5, 6));
  EXPECT_THAT(Values<int32_t>(op.to_slot_order), ElementsAre(0, 1, 2, 4, 5, 3));
  EXPECT_THAT(Values<int32_t>(op.to_arrival_order), ElementsAre(0, 1, 2, 5, 3, 4));
}

TEST(OrderArrivals, MayHaveMoreChunksThanSlots) {
  Workbench bench;
  const OrderArrivals op = Arrive(bench, bench.Longs({2, 2}, {1, 2, 1, 1}), 5, 4);
  EXPECT_THAT(Values<int32_t>(op.to_slot_order), ElementsAre(0, 1, 2, 3, 4));
}

TEST(OrderArrivals, MayHaveNoRowsAndNoSlots) {
  Workbench bench;
  EXPECT_THAT(Values<int64_t>(Arrive(bench, bench.Longs({2, 2}, {0, 0, 0, 0}), 0).offsets),
              ElementsAre(0, 0, 0));
  EXPECT_THAT(Values<int64_t>(Arrive(bench, bench.Longs({3, 0}, {}), 0).offsets), ElementsAre(0));
}

TEST(OrderArrivals, GivesOffsetsAlone) {
  Workbench bench;
  const OrderArrivals op{.counts = bench.Longs({1, 3}, {4, 0, 2}),
                         .chunks = 1,
                         .offsets = bench.Longs({4}, {-1, -1, -1, -1}),
                         .to_slot_order = {},
                         .to_arrival_order = {}};
  Compute(bench.ctx(), op);
  EXPECT_THAT(Values<int64_t>(op.offsets), ElementsAre(0, 4, 4, 6));
}

}  // namespace
}  // namespace unipool
