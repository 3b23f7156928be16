#include "runtime/ops/attention.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/grad_check.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Dot;
using testing::ExpectGradient;
using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;

struct Shape {
  int64_t sequences, sequence, heads, kv_heads, head_dim;

  int64_t tokens() const { return sequences * sequence; }
  int64_t columns() const { return (heads + 2 * kv_heads) * head_dim; }
  // Index of a query in lse [sequences, heads, sequence].
  int64_t lse(int64_t token, int64_t head) const {
    return (token / sequence * heads + head) * sequence + token % sequence;
  }
};

// One token, odd lengths, one and several blocks of queries, one key head for all query heads and
// one for each.
constexpr Shape kShapes[] = {{3, 1, 2, 1, 4},  {2, 37, 3, 3, 5},   {1, 64, 4, 2, 16},
                             {2, 65, 4, 1, 8}, {1, 200, 2, 2, 96}, {1, 130, 6, 2, 3}};

AttentionForward NewForward(Workbench& bench, const Shape& shape) {
  return {.qkv = bench.Random("qkv", {shape.tokens(), shape.columns()}),
          .heads = shape.heads,
          .kv_heads = shape.kv_heads,
          .sequence = shape.sequence,
          .out = bench.Poisoned({shape.tokens(), shape.heads * shape.head_dim}),
          .lse = bench.Poisoned({shape.sequences, shape.heads, shape.sequence})};
}

AttentionBackward NewBackward(Workbench& bench, const AttentionForward& forward) {
  return {.dout = bench.Random("dout", {forward.out.dim(0), forward.out.dim(1)}),
          .qkv = forward.qkv,
          .out = forward.out,
          .lse = forward.lse,
          .heads = forward.heads,
          .kv_heads = forward.kv_heads,
          .sequence = forward.sequence,
          .dqkv = bench.Poisoned({forward.qkv.dim(0), forward.qkv.dim(1)})};
}

// Reference in double for one query of one head: probabilities over the visible tokens, output,
// lse.
struct Row {
  std::vector<double> p;
  std::vector<double> out;
  double lse = 0;
};

const float* Head(const Tensor& qkv, int64_t token, int64_t head, int64_t head_dim) {
  return qkv.as<float>() + token * qkv.dim(1) + head * head_dim;
}

Row ReferenceRow(const Tensor& qkv, const Shape& shape, int64_t token, int64_t head) {
  const int64_t d = shape.head_dim, origin = token - token % shape.sequence;
  const int64_t key = shape.heads + head / (shape.heads / shape.kv_heads);
  Row row{.p = {}, .out = std::vector<double>(static_cast<size_t>(d), 0.0)};
  double sum = 0;
  for (int64_t j = origin; j <= token; ++j) {
    double score = 0;
    for (int64_t c = 0; c < d; ++c) {
      score += double{Head(qkv, token, head, d)[c]} * Head(qkv, j, key, d)[c];
    }
    row.p.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
    sum += row.p.back();
  }
  for (double& p : row.p) p /= sum;
  row.lse = std::log(sum);
  for (int64_t i = 0; i < d * (token - origin + 1); ++i) {
    const float* value = Head(qkv, origin + i / d, key + shape.kv_heads, d);
    row.out[static_cast<size_t>(i % d)] += row.p[static_cast<size_t>(i / d)] * value[i % d];
  }
  return row;
}

TEST(Attention, ForwardMatchesADoubleReference) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.sequence);
    Workbench bench;
    const AttentionForward op = NewForward(bench, shape);
    Compute(bench.ctx(), op);
    const Tensor out = bench.Zeros({shape.tokens(), shape.heads * shape.head_dim});
    const Tensor lse = bench.Zeros({shape.sequences, shape.heads, shape.sequence});
    for (int64_t i = 0; i < lse.numel(); ++i) {
      const int64_t token = i / shape.heads, head = i % shape.heads;
      const Row row = ReferenceRow(op.qkv, shape, token, head);
      std::copy(row.out.begin(), row.out.end(), out.as<float>() + i * shape.head_dim);
      lse.as<float>()[shape.lse(token, head)] = static_cast<float>(row.lse);
    }
    ExpectNear(op.out, out, 2e-6, 2e-6);
    ExpectNear(op.lse, lse, 2e-6, 2e-6);
  }
}

TEST(Attention, GradientsMatchFiniteDifferences) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.sequence);
    Workbench bench;
    const AttentionForward forward = NewForward(bench, shape);
    const AttentionBackward backward = NewBackward(bench, forward);
    const auto loss = [&] {
      Compute(bench.ctx(), forward);
      return Dot(forward.out, backward.dout);
    };
    loss();
    Compute(bench.ctx(), backward);
    ExpectGradient(forward.qkv, backward.dqkv, loss, {.step = 1e-2, .tolerance = 2e-3});
  }
}

TEST(Attention, ATokenAloneCopiesItsValue) {
  Workbench bench;
  const Tensor qkv = bench.Floats({1, 6}, {5, -7, 3, 2, 10, 20});
  const Tensor out = bench.Poisoned({1, 2}), lse = bench.Poisoned({1, 1, 1});
  Compute(bench.ctx(),
          AttentionForward{
              .qkv = qkv, .heads = 1, .kv_heads = 1, .sequence = 1, .out = out, .lse = lse});
  EXPECT_EQ(ToVector(out), (std::vector<float>{10, 20}));
  EXPECT_NEAR(lse.as<float>()[0], 1 / std::sqrt(2.0f), 1e-6);
}

TEST(Attention, ALaterTokenChangesNoEarlierOutput) {
  Workbench bench;
  const Shape shape{.sequences = 2, .sequence = 100, .heads = 4, .kv_heads = 2, .head_dim = 8};
  const AttentionForward op = NewForward(bench, shape);
  Compute(bench.ctx(), op);
  const Tensor out = bench.Copy(op.out), lse = bench.Copy(op.lse);
  const int64_t changed = 100 + 70;
  std::fill_n(op.qkv.as<float>() + changed * shape.columns(), shape.columns(), 50.0f);
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(op.out.Rows(0, changed)), ToVector(out.Rows(0, changed)));
  for (int64_t i = 0; i < changed * shape.heads; ++i) {
    const int64_t at = shape.lse(i / shape.heads, i % shape.heads);
    ASSERT_EQ(op.lse.as<float>()[at], lse.as<float>()[at]) << i;
  }
  EXPECT_NE(ToVector(op.out.Rows(changed, 200)), ToVector(out.Rows(changed, 200)));
}

TEST(Attention, HugeScoresStayFinite) {
  Workbench bench;
  const AttentionForward op = NewForward(bench, {1, 70, 2, 1, 4});
  for (int64_t i = 0; i < op.qkv.numel(); ++i) op.qkv.as<float>()[i] *= 1e4f;
  Compute(bench.ctx(), op);
  const AttentionBackward backward = NewBackward(bench, op);
  Compute(bench.ctx(), backward);
  for (const float value : ToVector(op.out)) ASSERT_TRUE(std::isfinite(value));
  for (const float value : ToVector(backward.dqkv)) ASSERT_TRUE(std::isfinite(value));
}

TEST(Attention, AcceptsNoTokens) {
  Workbench bench;
  const AttentionForward forward = NewForward(bench, {0, 16, 4, 2, 8});
  Compute(bench.ctx(), forward);
  Compute(bench.ctx(), NewBackward(bench, forward));
}

TEST(Attention, ThreadsDoNotChangeTheBits) {
  Workbench bench;
  const AttentionForward forward = NewForward(bench, {3, 150, 4, 2, 16});
  const AttentionBackward backward = NewBackward(bench, forward);
  const auto run = [&](int threads) {
    omp_set_num_threads(threads);
    Compute(bench.ctx(), forward);
    Compute(bench.ctx(), backward);
    return std::array{ToVector(forward.out), ToVector(forward.lse), ToVector(backward.dqkv)};
  };
  const auto one = run(1);
  EXPECT_EQ(run(2), one);
  EXPECT_EQ(run(3), one);
  omp_set_num_threads(omp_get_num_procs());
}

}  // namespace
}  // namespace unipool
