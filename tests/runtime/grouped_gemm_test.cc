#include "runtime/ops/grouped_gemm.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <array>
#include <numeric>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;

using Counts = std::vector<int64_t>;

// Rows per group: ragged with empty groups at both ends, one row per group, all rows in one group,
// no rows, a single group, and a group that is split into several pieces.
const Counts kCounts[] = {
    {0, 3, 0, 41, 1, 12, 0}, {1, 1, 1}, {0, 0, 50, 0}, {0, 0}, {9}, {2, 1300}};

Tensor Offsets(Workbench& bench, const Counts& counts) {
  Counts offsets(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
  return bench.Longs({static_cast<int64_t>(offsets.size())}, offsets);
}

int64_t Sum(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

GroupedGemm NewProduct(Workbench& bench, const Counts& counts, int64_t n, int64_t k,
                       bool transpose) {
  const int64_t rows = Sum(counts), groups = static_cast<int64_t>(counts.size());
  return {
      .a = bench.Random("a", {rows, k}),
      .weight = transpose ? bench.Random("w", {groups, n, k}) : bench.Random("w", {groups, k, n}),
      .offsets = Offsets(bench, counts),
      .c = bench.Poisoned({rows, n}),
      .transpose_weight = transpose};
}

Tensor Reference(Workbench& bench, const GroupedGemm& op) {
  const int64_t n = op.c.dim(1), k = op.a.dim(1);
  const int64_t* offsets = op.offsets.as<int64_t>();
  const Tensor c = bench.Zeros({op.c.dim(0), n});
  int64_t g = 0;
  for (int64_t i = 0; i < op.c.dim(0) * n; ++i) {
    const int64_t row = i / n, column = i % n;
    while (row >= offsets[g + 1]) ++g;
    const float* weight = op.weight.as<float>() + g * n * k;
    double sum = 0;
    for (int64_t p = 0; p < k; ++p) {
      const float w = op.transpose_weight ? weight[column * k + p] : weight[p * n + column];
      sum += double{op.a.as<float>()[row * k + p]} * w;
    }
    c.as<float>()[i] = static_cast<float>(sum);
  }
  return c;
}

TEST(GroupedGemm, MatchesADoubleReferenceForRaggedGroups) {
  for (const Counts& counts : kCounts) {
    for (const bool transpose : {false, true}) {
      SCOPED_TRACE(::testing::Message() << ::testing::PrintToString(counts) << transpose);
      Workbench bench;
      const GroupedGemm op = NewProduct(bench, counts, 37, 20, transpose);
      Compute(bench.ctx(), op);
      ExpectNear(op.c, Reference(bench, op), 1e-5, 1e-5);
    }
  }
}

TEST(GroupedGemm, WideWeightsAreCutIntoColumns) {
  for (const bool transpose : {false, true}) {
    Workbench bench;
    const GroupedGemm op = NewProduct(bench, {5, 0, 2}, 1100, 6, transpose);
    Compute(bench.ctx(), op);
    ExpectNear(op.c, Reference(bench, op), 1e-5, 1e-5);
  }
}

TEST(GroupedGemm, AnEmptyInnerDimensionGivesZeros) {
  Workbench bench;
  const GroupedGemm op = NewProduct(bench, {2, 0, 1}, 3, 0, true);
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(op.c), std::vector<float>(9, 0.0f));
}

TEST(GroupedGemm, ThreadsDoNotChangeTheBits) {
  for (const Counts& counts : {Counts{90, 1, 0, 33}, Counts{0, 1100}}) {
    Workbench bench;
    const GroupedGemm op = NewProduct(bench, counts, 1030, 24, true);
    const auto product = [&](int threads) {
      omp_set_num_threads(threads);
      Compute(bench.ctx(), op);
      return ToVector(op.c);
    };
    const std::vector<float> one = product(1);
    EXPECT_EQ(product(2), one);
    EXPECT_EQ(product(3), one);
  }
  omp_set_num_threads(omp_get_num_procs());
}

TEST(GroupedGemm, AGroupsRowsDoNotDependOnOtherGroups) {
  Workbench bench;
  const GroupedGemm op = NewProduct(bench, {40, 30, 5}, 64, 32, true);
  Compute(bench.ctx(), op);
  GroupedGemm alone = op;
  alone.a = op.a.Rows(40, 70);
  alone.offsets = Offsets(bench, {0, 30, 0});
  alone.c = bench.Poisoned({30, 64});
  Compute(bench.ctx(), alone);
  EXPECT_EQ(ToVector(alone.c), ToVector(op.c.Rows(40, 70)));
}

// The library rounds a row differently depending on its position in its group (see the header), so
// the results are close but not equal.
TEST(GroupedGemm, ARowMovedInsideItsGroupStaysWithinRounding) {
  Workbench bench;
  const GroupedGemm op = NewProduct(bench, {85}, 256, 256, true);
  Compute(bench.ctx(), op);
  for (const int64_t row : {0, 5, 42, 84}) {
    GroupedGemm alone = op;
    alone.a = op.a.Rows(row, row + 1);
    alone.offsets = Offsets(bench, {1});
    alone.c = bench.Poisoned({1, 256});
    Compute(bench.ctx(), alone);
    ExpectNear(alone.c, op.c.Rows(row, row + 1), 1e-4, 1e-5);
  }
}

GroupedRows NewLayer(Workbench& bench, const char* name, const Counts& counts, int64_t out,
                     int64_t in) {
  return {.dy = bench.Random(name, {Sum(counts), out}),
          .x = bench.Random("x", {Sum(counts), in}),
          .offsets = Offsets(bench, counts)};
}

void AddReference(const GroupedRows& layer, const Tensor& dweight) {
  const int64_t out = dweight.dim(1), in = dweight.dim(2);
  const int64_t* offsets = layer.offsets.as<int64_t>();
  for (int64_t i = 0; i < dweight.numel(); ++i) {
    const int64_t g = i / (out * in), row = i / in % out, column = i % in;
    double sum = 0;
    for (int64_t r = offsets[g]; r < offsets[g + 1]; ++r) {
      sum += double{layer.dy.as<float>()[r * out + row]} * layer.x.as<float>()[r * in + column];
    }
    dweight.as<float>()[i] += static_cast<float>(sum);
  }
}

void ExpectWeightGradient(const std::vector<Counts>& counts, int64_t out, int64_t in) {
  Workbench bench;
  const int64_t groups = static_cast<int64_t>(counts[0].size());
  const Tensor dweight = bench.Random("dweight", {groups, out, in});
  const Tensor expected = bench.Copy(dweight);
  std::vector<GroupedRows> layers;
  for (const Counts& layer : counts) {
    layers.push_back(NewLayer(bench, layers.empty() ? "first" : "next", layer, out, in));
    AddReference(layers.back(), expected);
  }
  Compute(bench.ctx(), GroupedWeightGradient{.layers = layers.data(),
                                             .num_layers = static_cast<int64_t>(layers.size()),
                                             .dweight = dweight});
  ExpectNear(dweight, expected, 1e-4, 1e-5);
}

TEST(GroupedWeightGradient, AddsTheSumOverRowsOfEachGroup) {
  for (const Counts& counts : kCounts) {
    SCOPED_TRACE(::testing::PrintToString(counts));
    ExpectWeightGradient({counts}, 19, 11);
  }
}

TEST(GroupedWeightGradient, AddsAllLayers) {
  ExpectWeightGradient({{3, 0, 9}, {0, 0, 4}, {1, 0, 0}}, 600, 13);
  ExpectWeightGradient({{7, 2}, {0, 5}}, 5, 530);
}

TEST(GroupedWeightGradient, GroupsWithoutRowsAndNoLayersAreLeftAlone) {
  Workbench bench;
  const Tensor dweight = bench.Random("dweight", {3, 4, 5});
  const std::vector<float> before = ToVector(dweight);
  const GroupedRows layer = NewLayer(bench, "dy", {0, 2, 0}, 4, 5);
  Compute(bench.ctx(),
          GroupedWeightGradient{.layers = nullptr, .num_layers = 0, .dweight = dweight});
  EXPECT_EQ(ToVector(dweight), before);
  Compute(bench.ctx(),
          GroupedWeightGradient{.layers = &layer, .num_layers = 1, .dweight = dweight});
  const std::vector<float> after = ToVector(dweight);
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 20, after.begin()));
  EXPECT_TRUE(std::equal(before.begin() + 40, before.end(), after.begin() + 40));
  EXPECT_NE(after, before);
}

TEST(GroupedWeightGradient, BatchedLayersGiveTheBitsOfOneByOneOnAnyThreads) {
  Workbench bench;
  const std::array layers{NewLayer(bench, "a", {30, 0, 45}, 700, 40),
                          NewLayer(bench, "b", {2, 9, 300}, 700, 40)};
  const auto gradient = [&](int threads, int64_t layers_per_call) {
    omp_set_num_threads(threads);
    const Tensor dweight = bench.Zeros({3, 700, 40});
    for (int64_t i = 0; i < 2; i += layers_per_call) {
      Compute(bench.ctx(), GroupedWeightGradient{.layers = &layers[static_cast<size_t>(i)],
                                                 .num_layers = layers_per_call,
                                                 .dweight = dweight});
    }
    return ToVector(dweight);
  };
  const std::vector<float> one = gradient(1, 1);
  EXPECT_EQ(gradient(1, 2), one);
  EXPECT_EQ(gradient(2, 2), one);
  omp_set_num_threads(omp_get_num_procs());
}

}  // namespace
}  // namespace unipool
