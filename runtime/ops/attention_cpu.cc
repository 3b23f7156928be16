#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/blas.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/vector_math.h"

namespace unipool {
namespace {

// Number of queries per block. A block reads the keys only up to its last query.
constexpr int64_t kBlock = 64;

// Offsets of the heads in the rows of qkv and out.
struct Layout {
  int64_t sequence;
  int64_t sequences;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t qkv_stride;
  int64_t out_stride;
  float scale;

  int64_t group() const { return heads / kv_heads; }
  int64_t blocks() const { return (sequence + kBlock - 1) / kBlock; }
  int64_t query(int64_t token, int64_t head) const { return token * qkv_stride + head * head_dim; }
  int64_t key(int64_t token, int64_t kv_head) const { return query(token, heads + kv_head); }
  int64_t value(int64_t token, int64_t kv_head) const {
    return query(token, heads + kv_heads + kv_head);
  }
  int64_t out(int64_t token, int64_t head) const { return token * out_stride + head * head_dim; }
  // Index of the lse of the first token of the sequence at token `origin`; later tokens follow.
  int64_t lse(int64_t origin, int64_t head) const { return origin * heads + head * sequence; }
};

template <typename Op>
Layout LayoutOf(const Op& op) {
  const int64_t head_dim = op.out.dim(1) / op.heads;
  return {.sequence = op.sequence,
          .sequences = op.out.dim(0) / op.sequence,
          .heads = op.heads,
          .kv_heads = op.kv_heads,
          .head_dim = head_dim,
          .qkv_stride = op.qkv.dim(1),
          .out_stride = op.out.dim(1),
          .scale = 1.0f / std::sqrt(static_cast<float>(head_dim))};
}

template <typename Op>
void CheckLayout(const Op& op) {
  CHECK_GE(op.sequence, 1);
  CHECK_GE(op.kv_heads, 1);
  CHECK_GE(op.heads, 1);
  CHECK_EQ(op.heads % op.kv_heads, 0);
  CHECK(op.qkv.rank == 2 && op.out.rank == 2 && op.lse.rank == 3);
  CHECK_EQ(op.qkv.dim(0), op.out.dim(0));
  CHECK_EQ(op.out.dim(0) % op.sequence, 0) << op.out.ShapeString();
  CHECK_EQ(op.out.dim(1) % op.heads, 0) << op.out.ShapeString();
  CHECK_EQ(op.qkv.dim(1), op.out.dim(1) / op.heads * (op.heads + 2 * op.kv_heads));
  CHECK(op.lse.dim(0) * op.sequence == op.out.dim(0) && op.lse.dim(1) == op.heads &&
        op.lse.dim(2) == op.sequence)
      << op.lse.ShapeString();
}

// Scratch for a block's scores, kept by the thread between calls. Every thread of a team calls it
// before the work is distributed, so that no thread allocates in a later step.
float* Scratch(int64_t floats) {
  thread_local std::vector<float> scratch;
  if (scratch.size() < static_cast<size_t>(floats)) scratch.resize(static_cast<size_t>(floats));
  return scratch.data();
}

// A block of queries of one head: queries [first, first + queries) of a sequence against its keys
// [0, keys). Row 0 of the scores is token origin + first, column 0 is token origin.
struct Block {
  int64_t origin;
  int64_t head;
  int64_t kv_head;
  int64_t first;
  int64_t queries;
  int64_t keys;
};

Block BlockOf(const Layout& layout, int64_t sequence_id, int64_t head, int64_t block_id) {
  const int64_t first = block_id * kBlock;
  const int64_t queries = std::min(kBlock, layout.sequence - first);
  return {.origin = sequence_id * layout.sequence,
          .head = head,
          .kv_head = head / layout.group(),
          .first = first,
          .queries = queries,
          .keys = first + queries};
}

// scores[queries, keys] = scale * Q K^T
void Scores(const Layout& layout, const Block& block, const float* qkv, float* scores) {
  RunSgemm({.m = block.queries,
            .n = block.keys,
            .k = layout.head_dim,
            .a = {qkv + layout.query(block.origin + block.first, block.head), layout.qkv_stride},
            .b = {.data = qkv + layout.key(block.origin, block.kv_head),
                  .stride = layout.qkv_stride,
                  .transposed = true},
            .c = scores,
            .c_stride = block.keys,
            .scale = layout.scale});
}

// Replaces the first `visible` scores of a row by probabilities and the rest by zeros. Returns the
// log-sum-exp.
float SoftmaxRow(float* scores, int64_t visible, int64_t keys) {
  float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
  for (int64_t j = 0; j < visible; ++j) largest = std::max(largest, scores[j]);
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < visible; ++j) {
    scores[j] = FastExp(scores[j] - largest);
    sum += scores[j];
  }
  const float inverse = 1.0f / sum;
  for (int64_t j = 0; j < visible; ++j) scores[j] *= inverse;
  std::fill(scores + visible, scores + keys, 0.0f);
  return largest + std::log(sum);
}

void ForwardBlock(const AttentionForward& op, const Layout& layout, const Block& block,
                  float* scores) {
  const float* qkv = op.qkv.as<float>();
  Scores(layout, block, qkv, scores);
  float* lse = op.lse.as<float>() + layout.lse(block.origin, block.head) + block.first;
  for (int64_t i = 0; i < block.queries; ++i) {
    lse[i] = SoftmaxRow(scores + i * block.keys, block.first + i + 1, block.keys);
  }
  RunSgemm({.m = block.queries,
            .n = layout.head_dim,
            .k = block.keys,
            .a = {scores, block.keys},
            .b = {qkv + layout.value(block.origin, block.kv_head), layout.qkv_stride},
            .c = op.out.as<float>() + layout.out(block.origin + block.first, block.head),
            .c_stride = layout.out_stride});
}

}  // namespace

void AttentionForward::Check() const { CheckLayout(*this); }

void ComputeOnCpu(const AttentionForward& op) {
  const Layout layout = LayoutOf(op);
  const int64_t blocks = layout.blocks();
  const int64_t items = layout.sequences * layout.heads * blocks;
#pragma omp parallel
  {
    float* const scores = Scratch(kBlock * layout.sequence);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < items; ++item) {
      const int64_t head = item / blocks % layout.heads;
      const int64_t sequence_id = item / blocks / layout.heads;
      ForwardBlock(op, layout, BlockOf(layout, sequence_id, head, item % blocks), scores);
    }
  }
}

void AttentionBackward::Check() const {
  CheckLayout(*this);
  CHECK(dout.SameShape(out)) << dout.ShapeString();
  CHECK(dqkv.SameShape(qkv)) << dqkv.ShapeString();
}

namespace {

// Replaces a row of scores by probabilities p, and a row of dp = dO V^T by the gradient of the
// unscaled scores: ds = p * (dp - sum_d dO * out) * scale. Keys after the query get zeros.
struct RowGradient {
  float lse;
  float dot;
  float scale;
  int64_t visible;
  int64_t keys;

  void Run(float* p, float* ds) const {
    const float shift = lse, offset = dot, factor = scale;
#pragma omp simd
    for (int64_t j = 0; j < visible; ++j) {
      p[j] = FastExp(p[j] - shift);
      ds[j] = p[j] * (ds[j] - offset) * factor;
    }
    std::fill(p + visible, p + keys, 0.0f);
    std::fill(ds + visible, ds + keys, 0.0f);
  }
};

float DotProduct(const float* a, const float* b, int64_t size) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

// Computes p and ds of a block, each [queries, keys].
void ScoreGradients(const AttentionBackward& op, const Layout& layout, const Block& block, float* p,
                    float* ds) {
  const float* qkv = op.qkv.as<float>();
  const float* dout = op.dout.as<float>();
  Scores(layout, block, qkv, p);
  RunSgemm({.m = block.queries,
            .n = block.keys,
            .k = layout.head_dim,
            .a = {dout + layout.out(block.origin + block.first, block.head), layout.out_stride},
            .b = {.data = qkv + layout.value(block.origin, block.kv_head),
                  .stride = layout.qkv_stride,
                  .transposed = true},
            .c = ds,
            .c_stride = block.keys});
  const float* lse = op.lse.as<float>() + layout.lse(block.origin, block.head) + block.first;
  for (int64_t i = 0; i < block.queries; ++i) {
    const int64_t row = layout.out(block.origin + block.first + i, block.head);
    const RowGradient gradient{
        .lse = lse[i],
        .dot = DotProduct(dout + row, op.out.as<float>() + row, layout.head_dim),
        .scale = layout.scale,
        .visible = block.first + i + 1,
        .keys = block.keys};
    gradient.Run(p + i * block.keys, ds + i * block.keys);
  }
}

// Adds the block's contribution to the gradients of its keys and values, or overwrites them if
// `first`. `p` has room for the scores of two blocks.
void BackwardBlock(const AttentionBackward& op, const Layout& layout, const Block& block,
                   bool first, float* p) {
  const float* qkv = op.qkv.as<float>();
  float* dqkv = op.dqkv.as<float>();
  float* ds = p + kBlock * layout.sequence;
  ScoreGradients(op, layout, block, p, ds);
  const int64_t token = block.origin + block.first, stride = layout.qkv_stride;
  const int64_t query = layout.query(token, block.head);
  const int64_t key = layout.key(block.origin, block.kv_head);
  RunSgemm({.m = block.queries,
            .n = layout.head_dim,
            .k = block.keys,
            .a = {ds, block.keys},
            .b = {qkv + key, stride},
            .c = dqkv + query,
            .c_stride = stride});
  RunSgemm({.m = block.keys,
            .n = layout.head_dim,
            .k = block.queries,
            .a = {.data = ds, .stride = block.keys, .transposed = true},
            .b = {qkv + query, stride},
            .c = dqkv + key,
            .c_stride = stride,
            .accumulate = !first});
  RunSgemm({.m = block.keys,
            .n = layout.head_dim,
            .k = block.queries,
            .a = {.data = p, .stride = block.keys, .transposed = true},
            .b = {op.dout.as<float>() + layout.out(token, block.head), layout.out_stride},
            .c = dqkv + layout.value(block.origin, block.kv_head),
            .c_stride = stride,
            .accumulate = !first});
}

}  // namespace

// One thread processes all queries that read a key and adds their contributions in a fixed order.
// The last block is processed first: it reaches every key, so it can overwrite the gradients that
// the others add to.
void ComputeOnCpu(const AttentionBackward& op) {
  const Layout layout = LayoutOf(op);
  const int64_t items = layout.sequences * layout.kv_heads, group = layout.group();
#pragma omp parallel
  {
    float* const scratch = Scratch(2 * kBlock * layout.sequence);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < items; ++item) {
      const int64_t sequence_id = item / layout.kv_heads, kv_head = item % layout.kv_heads;
      for (int64_t i = 0; i < group * layout.blocks(); ++i) {
        const int64_t head = kv_head * group + i / layout.blocks();
        const int64_t block_id = layout.blocks() - 1 - i % layout.blocks();
        const Block block = BlockOf(layout, sequence_id, head, block_id);
        BackwardBlock(op, layout, block, i == 0, scratch);
      }
    }
  }
}

}  // namespace unipool
