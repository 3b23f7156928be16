#include "runtime/ops/elementwise.h"

#include <gtest/gtest.h>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::BothDevices;
using testing::Workbench;

// Sizes: empty, one, a few, no multiple of a pack, and many blocks.
constexpr int64_t kCounts[] = {0, 1, 31, 4099, 40001};

TEST(ElementwiseOnBothDevices, AddIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const int64_t count : kCounts) {
    Workbench bench;
    const Tensor a = bench.Random("a", {count}), b = bench.Random("b", {count});
    BothDevices<Add>{{.a = a, .b = b, .y = bench.Poisoned({count})}}.Expect();
    BothDevices<Add>{{.a = a, .b = b, .y = b}}.Expect();
  }
}

TEST(ElementwiseOnBothDevices, FillIsTheSame) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  for (const double value : {0.0, -1.5}) {
    for (const int64_t count : kCounts) {
      BothDevices<Fill>{{.x = bench.Poisoned({count}), .value = value}}.Expect();
    }
    BothDevices<Fill>{{.x = bench.Ints({3}, {1, 2, 3}), .value = value}}.Expect();
    BothDevices<Fill>{{.x = bench.Longs({3}, {1, 2, 3}), .value = value}}.Expect();
    BothDevices<Fill>{{.x = bench.arena().New<double>({7}), .value = value}}.Expect();
  }
}

TEST(ElementwiseOnBothDevices, CopyIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const int64_t count : kCounts) {
    Workbench bench;
    BothDevices<Copy>{{.x = bench.Random("x", {count}), .y = bench.Poisoned({count})}}.Expect();
  }
}

TEST(ElementwiseOnBothDevices, CastIsTheSameThereAndBack) {
  SKIP_WITHOUT_GPU();
  for (const int64_t count : kCounts) {
    Workbench bench;
    const Tensor x = bench.Random("x", {count});
    const Tensor y = bench.arena().Allocate(DType::kBFloat16, {count});
    BothDevices<Cast>{.op = {.x = x, .y = y}, .options = {.bfloat16 = false}}.Expect();
    Compute(bench.ctx(), Cast{.x = x, .y = y});
    BothDevices<Cast>{.op = {.x = y, .y = bench.Poisoned({count})}, .options = {.bfloat16 = false}}
        .Expect();
  }
}

TEST(ElementwiseOnBothDevices, SumOfSquaresIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const int64_t count : kCounts) {
    Workbench bench;
    const Tensor sum = bench.arena().New<double>({1});
    sum.as<double>()[0] = 0.25;
    BothDevices<SumOfSquares>{.op = {.x = bench.Random("x", {count}), .sum = sum},
                              .options = {.bfloat16 = false}}
        .Expect();
  }
}

// A view may begin at any element.
TEST(ElementwiseOnBothDevices, SumOfSquaresOfAPartIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const int64_t begin : {1, 2, 3, 4}) {
    Workbench bench;
    testing::DeviceCopies copies;
    SumOfSquares op{.x = bench.Random("x", {1000}), .sum = bench.arena().New<double>({1})};
    op.sum.as<double>()[0] = 0;
    SumOfSquares on_gpu = op;
    copies.Move(&on_gpu.x, false);
    copies.Move(&on_gpu.sum, false);
    op.x = op.x.Rows(begin, 997);
    on_gpu.x = on_gpu.x.Rows(begin, 997);
    Compute(copies.ctx(), on_gpu);
    Compute(bench.ctx(), op);
    EXPECT_NEAR(copies.Read(on_gpu.sum)[0], op.sum.as<double>()[0], 1e-9) << begin;
  }
}

}  // namespace
}  // namespace unipool
