#include "runtime/ops/grouped_gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool::testing {
namespace {

using Counts = std::vector<int64_t>;

int64_t Sum(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

Tensor Offsets(Workbench& bench, const Counts& counts) {
  Counts offsets(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
  return bench.Longs({static_cast<int64_t>(offsets.size())}, offsets);
}

// Rows per group: ragged with empty groups at both ends, one row per group, all rows in one group,
// no rows, few and many rows per group (which use tiles of different heights), and more groups than
// a warp has lanes.
std::vector<Counts> AllCounts() {
  Counts many(70, 0);
  many[33] = many[69] = 2;
  return {{0, 3, 0, 41, 1, 12, 0}, {1, 1, 1}, {0, 0, 150, 0}, {0, 0}, {129, 70}, many};
}

struct Size {
  int64_t n, k;
};

GroupedGemm NewProduct(Workbench& bench, const Counts& counts, Size size, bool transpose) {
  const int64_t rows = Sum(counts), groups = static_cast<int64_t>(counts.size());
  const auto [n, k] = size;
  return {
      .a = bench.Random("a", {rows, k}),
      .weight = transpose ? bench.Random("w", {groups, n, k}) : bench.Random("w", {groups, k, n}),
      .offsets = Offsets(bench, counts),
      .c = bench.Poisoned({rows, n}),
      .transpose_weight = transpose};
}

TEST(CudaGroupedGemm, AgreesForRaggedGroups) {
  SKIP_WITHOUT_GPU();
  for (const Counts& counts : AllCounts()) {
    for (const bool transpose : {false, true}) {
      SCOPED_TRACE(::testing::PrintToString(counts));
      Workbench bench;
      ExpectOnBothDevices(NewProduct(bench, counts, {40, 72}, transpose));
    }
  }
}

// Sizes that are no multiple of 16 bytes, an empty inner dimension, several tiles of columns, and
// several rounds of the stages.
TEST(CudaGroupedGemm, AgreesForAllSizes) {
  SKIP_WITHOUT_GPU();
  for (const Size size : {Size{37, 20}, Size{8, 0}, Size{0, 8}, Size{8, 8}, Size{272, 328}}) {
    for (const bool transpose : {false, true}) {
      SCOPED_TRACE(::testing::Message() << size.n << " x " << size.k);
      Workbench bench;
      ExpectOnBothDevices(NewProduct(bench, {3, 0, 70}, size, transpose));
      ExpectOnBothDevices(NewProduct(bench, {5, 131}, size, transpose));
    }
  }
}

std::vector<double> ProductOnGpu(DeviceCopies& copies, GroupedGemm op, bool rounded) {
  for (Tensor* tensor : {&op.a, &op.weight, &op.c}) copies.Move(tensor, rounded);
  copies.Move(&op.offsets, false);
  Compute(copies.ctx(), op);
  return copies.Read(op.c);
}

// The same row at other positions, with other neighbors and another tile height.
TEST(CudaGroupedGemm, ARowsBitsDoNotDependOnOtherRows) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  const GroupedGemm all = NewProduct(bench, {150, 40}, {72, 200}, true);
  GroupedGemm alone = all;
  alone.a = all.a.Rows(149, 151);
  alone.offsets = Offsets(bench, {1, 1});
  alone.c = bench.Poisoned({2, 72});
  DeviceCopies copies;
  const std::vector<double> of_all = ProductOnGpu(copies, all, true);
  const std::vector<double> of_alone = ProductOnGpu(copies, alone, true);
  EXPECT_TRUE(std::equal(of_alone.begin(), of_alone.end(), of_all.begin() + 149 * 72));
}

TEST(CudaGroupedGemm, RowsBeyondTheLastGroupAreLeftAlone) {
  SKIP_WITHOUT_GPU();
  for (const bool rounded : {false, true}) {
    Workbench bench;
    GroupedGemm op = NewProduct(bench, {3, 70}, {16, 64}, true);
    op.offsets = Offsets(bench, {3, 60});
    DeviceCopies copies;
    const std::vector<double> c = ProductOnGpu(copies, op, rounded);
    for (size_t i = 0; i < c.size(); ++i) ASSERT_EQ(std::isnan(c[i]), i >= 63 * 16) << i;
  }
}

struct GradientCase {
  std::vector<Counts> layers;
  int64_t out, in;
};

// The rows of the layers on the GPU and the same values on the host.
struct Layers {
  std::vector<GroupedRows> host, gpu;
  std::vector<Buffer> storage;
};

Layers NewLayers(Workbench& bench, DeviceCopies& copies, const GradientCase& test, bool rounded) {
  Layers layers;
  for (const Counts& counts : test.layers) {
    GroupedRows rows{.dy = bench.Random("dy", {Sum(counts), test.out}),
                     .x = bench.Random("x", {Sum(counts), test.in}),
                     .offsets = Offsets(bench, counts)};
    rows.dy = CopyOnHost(rows.dy, rounded, layers.storage);
    rows.x = CopyOnHost(rows.x, rounded, layers.storage);
    layers.host.push_back(rows);
    copies.Move(&rows.dy, rounded);
    copies.Move(&rows.x, rounded);
    copies.Move(&rows.offsets, false);
    layers.gpu.push_back(rows);
  }
  return layers;
}

std::vector<double> ExpectGradientAgrees(const GradientCase& test, bool rounded) {
  Workbench bench;
  DeviceCopies copies;
  const Layers layers = NewLayers(bench, copies, test, rounded);
  const auto groups = static_cast<int64_t>(test.layers[0].size());
  GroupedWeightGradient op{.layers = layers.gpu.data(),
                           .num_layers = static_cast<int64_t>(layers.gpu.size()),
                           .dweight = bench.Random("dw", {groups, test.out, test.in})};
  const Tensor expected = bench.Copy(op.dweight);
  copies.Move(&op.dweight, false);
  Compute(copies.ctx(), op);
  const std::vector<double> actual = copies.Read(op.dweight);
  op.layers = layers.host.data();
  op.dweight = expected;
  Compute(bench.ctx(), op);
  ExpectClose("dweight", actual, ToDoubles(expected), kFloat32Tolerance);
  return actual;
}

// Layers with no, few and many rows; sizes of several tiles and of none; more layers than one
// launch processes.
TEST(CudaGroupedWeightGradient, AgreesAndGivesTheSameBitsTwice) {
  SKIP_WITHOUT_GPU();
  const std::vector<Counts> many(66, Counts{1, 0});
  for (const GradientCase& test : {GradientCase{{{3, 0, 9}, {0, 0, 4}, {1, 0, 0}}, 72, 16},
                                   GradientCase{{{70, 0, 9}, {3, 0, 64}, {50, 0, 130}}, 136, 264},
                                   GradientCase{{{0, 0}, {5, 2}}, 19, 11},
                                   GradientCase{{{0, 0}}, 8, 8}, GradientCase{many, 8, 8}}) {
    for (const bool rounded : {false, true}) {
      SCOPED_TRACE(::testing::Message() << test.out << " x " << test.in);
      EXPECT_EQ(ExpectGradientAgrees(test, rounded), ExpectGradientAgrees(test, rounded));
    }
  }
}

}  // namespace
}  // namespace unipool::testing
