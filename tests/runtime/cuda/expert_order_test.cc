// The sorts of the token exchange. Results are integers and must be equal on both devices.
#include "runtime/ops/expert_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool::testing {
namespace {

// Low experts are chosen often, high ones rarely.
int32_t Skewed(int64_t i, int64_t experts) {
  const int64_t spread = i * i + 7 * i;
  return static_cast<int32_t>(spread % (1 + spread / 3 % experts));
}
int32_t AllToLast(int64_t, int64_t experts) { return static_cast<int32_t>(experts - 1); }

// Which pairs have a gate of 0.
enum class Lost { kNone, kSome, kAll };

Tensor Gates(Workbench& bench, int64_t tokens, int64_t k, Lost lost) {
  if (lost == Lost::kNone) return Tensor{};
  const Tensor gates = bench.Zeros({tokens, k});
  for (int64_t i = 0; lost == Lost::kSome && i < gates.numel(); ++i) {
    gates.as<float>()[i] = i * i % 7 < 3 ? 0.0f : 0.5f;
  }
  return gates;
}

void ExpectSorted(int64_t tokens, int64_t k, int64_t experts, int32_t (*id)(int64_t, int64_t),
                  Lost lost = Lost::kNone) {
  Workbench bench;
  std::vector<int32_t> ids(static_cast<size_t>(tokens * k)), order(static_cast<size_t>(experts));
  std::vector<int32_t> backwards(order.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = id(static_cast<int64_t>(i), experts);
  std::iota(order.begin(), order.end(), 0);
  std::rotate(order.begin(), order.begin() + experts / 3, order.end());
  for (size_t e = 0; e < order.size(); ++e) backwards[e] = static_cast<int32_t>(experts - 1 - e);
  const std::vector<int32_t> bad(ids.size(), -7);
  SCOPED_TRACE(::testing::Message() << tokens << " x " << k << " to " << experts);
  ExpectOnBothDevices(
      SortByExpert{.ids = bench.Ints({tokens, k}, ids),
                   .gates = Gates(bench, tokens, k, lost),
                   .order = bench.Ints({experts}, order),
                   .count_order = bench.Ints({experts}, backwards),
                   .counts = bench.Longs({experts}, std::vector<int64_t>(order.size(), -1)),
                   .send_index = bench.Ints({tokens * k}, bad),
                   .positions = bench.Ints({tokens, k}, bad)},
      {}, {.bfloat16 = false});
}

TEST(CudaExpertOrder, SortsAgree) {
  SKIP_WITHOUT_GPU();
  struct Size {
    int64_t tokens, k, experts;
  };
  for (const auto [tokens, k, experts] :
       {Size{0, 2, 5}, {1, 1, 1}, {33, 1, 3}, {31, 3, 96}, {257, 2, 33}, {1500, 1, 4096}}) {
    for (const Lost lost : {Lost::kNone, Lost::kSome, Lost::kAll}) {
      ExpectSorted(tokens, k, experts, &Skewed, lost);
      ExpectSorted(tokens, k, experts, &AllToLast, lost);
    }
  }
}

// More pairs than kMaxPieces pieces of the default size hold.
TEST(CudaExpertOrder, SortsOfManyPairsAgree) {
  SKIP_WITHOUT_GPU();
  ExpectSorted(140001, 2, 5, &Skewed);
  ExpectSorted(140001, 2, 5, &Skewed, Lost::kSome);
}

void ExpectOrdered(int64_t sources, int64_t slots, const std::vector<int64_t>& counts,
                   int64_t chunks = 1) {
  Workbench bench;
  const int64_t rows = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const std::vector<int32_t> bad(static_cast<size_t>(rows), -1);
  const std::vector<int64_t> worse(static_cast<size_t>(slots + 1), -1);
  OrderArrivals op{.counts = bench.Longs({sources, slots}, counts),
                   .chunks = chunks,
                   .offsets = bench.Longs({slots + 1}, worse),
                   .to_slot_order = bench.Ints({rows}, bad),
                   .to_arrival_order = bench.Ints({rows}, bad)};
  ExpectOnBothDevices(op, {}, {.bfloat16 = false});
  op.to_slot_order = op.to_arrival_order = Tensor{};
  ExpectOnBothDevices(op, {}, {.bfloat16 = false});
}

TEST(CudaExpertOrder, ArrivalsAgree) {
  SKIP_WITHOUT_GPU();
  ExpectOrdered(2, 3, {2, 0, 1, 1, 2, 0});
  ExpectOrdered(1, 1, {700});
  ExpectOrdered(3, 0, {});
  ExpectOrdered(2, 2, {0, 0, 0, 0});
  std::vector<int64_t> many(3 * 341);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<int64_t>(i * i % 7);
  many[500] = 600;
  for (const int64_t chunks : {1, 2, 8, 341, 400}) ExpectOrdered(3, 341, many, chunks);
  ExpectOrdered(3, 0, {}, 2);
}

}  // namespace
}  // namespace unipool::testing
