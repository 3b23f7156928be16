#include "runtime/ops/gemm.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "runtime/blas.h"
#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;

struct Shape {
  int64_t m, n, k;
};

// Size 1, odd sizes, one with several tiles, and one with a long k and a small c.
constexpr Shape kShapes[] = {{1, 1, 1},      {1, 33, 5},     {7, 1, 64},    {3, 5, 7},
                             {300, 129, 65}, {1100, 257, 9}, {20, 2100, 3}, {17, 31, 1500}};

Tensor Matrix(Workbench& bench, const char* name, int64_t rows, int64_t columns, bool transposed) {
  return transposed ? bench.Random(name, {columns, rows}) : bench.Random(name, {rows, columns});
}

float At(const Tensor& x, int64_t row, int64_t column, bool transposed) {
  const int64_t stride = x.dim(1);
  return x.as<float>()[transposed ? column * stride + row : row * stride + column];
}

// Reference in double; includes the contents of op.c if the op accumulates.
Tensor Reference(Workbench& bench, const Gemm& op) {
  const int64_t m = op.c.dim(0), n = op.c.dim(1), k = op.a.dim(op.transpose_a ? 0 : 1);
  const Tensor c = bench.Zeros({m, n});
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = op.accumulate ? op.c.as<float>()[i * n + j] : 0;
      for (int64_t p = 0; p < k; ++p) {
        sum += double{At(op.a, i, p, op.transpose_a)} * At(op.b, p, j, op.transpose_b);
      }
      c.as<float>()[i * n + j] = static_cast<float>(sum);
    }
  }
  return c;
}

void ExpectProduct(Shape shape, bool transpose_a, bool transpose_b, bool accumulate) {
  SCOPED_TRACE(::testing::Message() << shape.m << " " << shape.n << " " << shape.k << " "
                                    << transpose_a << transpose_b << accumulate);
  Workbench bench;
  const Tensor c =
      accumulate ? bench.Random("c", {shape.m, shape.n}) : bench.Poisoned({shape.m, shape.n});
  const Gemm op{.a = Matrix(bench, "a", shape.m, shape.k, transpose_a),
                .b = Matrix(bench, "b", shape.k, shape.n, transpose_b),
                .c = c,
                .transpose_a = transpose_a,
                .transpose_b = transpose_b,
                .accumulate = accumulate};
  const Tensor expected = Reference(bench, op);
  Gemm elsewhere = op;
  elsewhere.base = accumulate ? bench.Copy(c) : Tensor{};
  elsewhere.c = bench.Poisoned({shape.m, shape.n});
  Compute(bench.ctx(), op);
  ExpectNear(c, expected, 2e-6 * std::sqrt(shape.k) + 1e-6, 1e-5);
  Compute(bench.ctx(), elsewhere);
  EXPECT_EQ(ToVector(elsewhere.c), ToVector(c));
}

TEST(Gemm, MatchesADoubleReferenceForEveryTranspose) {
  for (const Shape& shape : kShapes) {
    for (int flags = 0; flags < 8; ++flags) {
      ExpectProduct(shape, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0);
    }
  }
}

TEST(Gemm, MatchesByHand) {
  Workbench bench;
  const Tensor a = bench.Floats({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor b = bench.Floats({1, 3}, {10, 20, 30}), c = bench.Floats({2, 1}, {1, -1});
  Compute(
      bench.ctx(),
      Gemm{.a = a, .b = b, .c = c, .transpose_a = false, .transpose_b = true, .accumulate = true});
  EXPECT_EQ(ToVector(c), (std::vector<float>{141, 319}));
}

TEST(Gemm, AnEmptySumWritesZerosOrAddsNothing) {
  Workbench bench;
  const Tensor a = bench.Zeros({3, 0}), b = bench.Zeros({0, 2}), c = bench.Poisoned({3, 2});
  Gemm op{.a = a, .b = b, .c = c, .transpose_a = false, .transpose_b = false, .accumulate = false};
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(c), std::vector<float>(6, 0.0f));
  std::fill_n(c.as<float>(), 6, 3.0f);
  op.accumulate = true;
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(c), std::vector<float>(6, 3.0f));
}

TEST(Gemm, AcceptsNoRowsAndNoColumns) {
  Workbench bench;
  const Tensor some = bench.Random("some", {4, 5}), none = bench.Zeros({0, 5});
  const auto product = [&](const Tensor& a, const Tensor& b, const Tensor& c) {
    Compute(bench.ctx(), Gemm{.a = a,
                              .b = b,
                              .c = c,
                              .transpose_a = false,
                              .transpose_b = true,
                              .accumulate = false});
  };
  product(none, some, bench.Zeros({0, 4}));
  product(some, none, bench.Zeros({4, 0}));
  product(none, none, bench.Zeros({0, 0}));
}

TEST(Gemm, ThreadsDoNotChangeTheBits) {
  Workbench bench;
  const Tensor a = bench.Random("a", {700, 70}), b = bench.Random("b", {333, 70});
  const auto product = [&](int threads) {
    omp_set_num_threads(threads);
    const Tensor c = bench.Poisoned({700, 333});
    Compute(bench.ctx(), Gemm{.a = a,
                              .b = b,
                              .c = c,
                              .transpose_a = false,
                              .transpose_b = true,
                              .accumulate = false});
    return ToVector(c);
  };
  const std::vector<float> one = product(1);
  EXPECT_EQ(product(2), one);
  EXPECT_EQ(product(5), one);
  omp_set_num_threads(omp_get_num_procs());
}

TEST(Gemm, ALaterRowChangesNoOtherRow) {
  Workbench bench;
  const Tensor a = bench.Random("a", {70, 48}), b = bench.Random("b", {90, 48});
  const Tensor before = bench.Poisoned({70, 90}), after = bench.Poisoned({70, 90});
  Gemm op{
      .a = a, .b = b, .c = before, .transpose_a = false, .transpose_b = true, .accumulate = false};
  Compute(bench.ctx(), op);
  std::fill_n(a.as<float>() + 33 * 48, 48, 1e30f);
  op.c = after;
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(after.Rows(0, 33)), ToVector(before.Rows(0, 33)));
  EXPECT_EQ(ToVector(after.Rows(34, 70)), ToVector(before.Rows(34, 70)));
  EXPECT_NE(ToVector(after.Rows(33, 34)), ToVector(before.Rows(33, 34)));
}

TEST(Gemm, MeasuredRateIsPositiveAndLeavesResultsAlone) {
  EXPECT_GT(MeasureSgemmFlops(2, 64), 1e6);
  ExpectProduct({.m = 130, .n = 40, .k = 20}, false, true, false);
}

}  // namespace
}  // namespace unipool
