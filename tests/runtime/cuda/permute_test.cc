#include "runtime/ops/permute.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool::testing {
namespace {

constexpr int64_t kWidths[] = {1, 37, 72, 520};

// A permutation without locality; the step is coprime to the number of rows.
Tensor Shuffled(Workbench& bench, std::initializer_list<int64_t> dims, int64_t rows) {
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < rows; ++i) {
    positions.push_back(static_cast<int32_t>((i * 7 + 3) % rows));
  }
  return bench.Ints(dims, positions);
}

TEST(CudaPermute, GatheredRowsAreEqual) {
  SKIP_WITHOUT_GPU();
  for (const int64_t hidden : kWidths) {
    Workbench bench;
    ExpectOnBothDevices(GatherRows{.x = bench.Random("x", {9, hidden}),
                                   .index = bench.Ints({5}, {8, 0, 3, 3, 1}),
                                   .y = bench.Poisoned({5, hidden})});
  }
}

CombineRows NewCombine(Workbench& bench, int64_t tokens, int64_t k, int64_t hidden) {
  return {.rows = bench.Random("rows", {tokens * k, hidden}),
          .positions = Shuffled(bench, {tokens, k}, tokens * k),
          .gates = bench.Random("gates", {tokens, k}),
          .base = Tensor{},
          .y = bench.Poisoned({tokens, hidden})};
}

TEST(CudaPermute, CombinedRowsAgreeWithAndWithoutGatesAndAddedTo) {
  SKIP_WITHOUT_GPU();
  for (const int64_t hidden : kWidths) {
    Workbench bench;
    CombineRows op = NewCombine(bench, 5, hidden == 37 ? 1 : 2, hidden);
    ExpectOnBothDevices(op, {&CombineRows::gates});
    op.gates = Tensor{};
    ExpectOnBothDevices(op);
    op.base = bench.Random("base", {5, hidden});
    ExpectOnBothDevices(op);
  }
}

// The base is a view that is not aligned to a pack of 16 bytes, unlike rows and y.
TEST(CudaPermute, CombinesWithAnUnalignedBase) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  CombineRows op = NewCombine(bench, 5, 2, 72);
  op.base = bench.Random("base", {5 * 72 + 1});
  DeviceCopies copies;
  CombineRows on_gpu = op;
  for (Tensor* tensor : {&on_gpu.rows, &on_gpu.positions, &on_gpu.gates, &on_gpu.base, &on_gpu.y}) {
    copies.Move(tensor, false);
  }
  op.base = op.base.Rows(1, 361).Reshape({5, 72});
  on_gpu.base = on_gpu.base.Rows(1, 361).Reshape({5, 72});
  Compute(copies.ctx(), on_gpu);
  Compute(bench.ctx(), op);
  ExpectClose("y", copies.Read(on_gpu.y), ToDoubles(op.y), kFloat32Tolerance);
}

TEST(CudaPermute, CombinesGradientsAgreeAlsoInPlace) {
  SKIP_WITHOUT_GPU();
  for (const int64_t hidden : kWidths) {
    Workbench bench;
    const CombineRows forward = NewCombine(bench, 4, 2, hidden);
    CombineRowsBackward op{.dy = bench.Random("dy", {4, hidden}),
                           .rows = forward.rows,
                           .positions = forward.positions,
                           .gates = forward.gates,
                           .drows = bench.Poisoned({8, hidden}),
                           .dgates = bench.Poisoned({4, 2})};
    const std::vector<Tensor CombineRowsBackward::*> kept = {&CombineRowsBackward::gates,
                                                             &CombineRowsBackward::dgates};
    ExpectOnBothDevices(op, kept);
    op.drows = op.rows;
    ExpectOnBothDevices(op, kept);
  }
}

// The last row of the tensors is at no position. NaN in it must not spread.
TEST(CudaPermute, ChoicesWithoutARowAgree) {
  SKIP_WITHOUT_GPU();
  for (const int64_t hidden : kWidths) {
    Workbench bench;
    CombineRows op = NewCombine(bench, 3, 2, hidden);
    op.rows = bench.Poisoned({5, hidden});
    const Tensor good = op.rows.Rows(0, 4), random = bench.Random("rows", {4, hidden});
    std::copy_n(random.as<float>(), random.numel(), good.as<float>());
    op.positions = bench.Ints({3, 2}, {2, -1, -1, -1, 3, 0});
    ExpectOnBothDevices(op, {&CombineRows::gates});
    CombineRowsBackward backward{.dy = bench.Random("dy", {3, hidden}),
                                 .rows = op.rows,
                                 .positions = op.positions,
                                 .gates = op.gates,
                                 .drows = bench.Poisoned({5, hidden}),
                                 .dgates = bench.Poisoned({3, 2})};
    ExpectOnBothDevices(backward, {&CombineRowsBackward::gates, &CombineRowsBackward::dgates});
    ExpectOnBothDevices(GatherRows{
        .x = random, .index = bench.Ints({4}, {3, -1, 0, -1}), .y = bench.Poisoned({4, hidden})});
  }
}

TEST(CudaPermute, AcceptsNoRows) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  ExpectOnBothDevices(NewCombine(bench, 0, 2, 8), {&CombineRows::gates});
  ExpectOnBothDevices(
      GatherRows{.x = bench.Zeros({0, 8}), .index = bench.Ints({0}, {}), .y = bench.Zeros({0, 8})});
}

}  // namespace
}  // namespace unipool::testing
