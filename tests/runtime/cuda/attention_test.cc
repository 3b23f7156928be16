#include "runtime/ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool::testing {
namespace {

struct Shape {
  int64_t sequences, sequence, heads, kv_heads, head_dim;

  int64_t tokens() const { return sequences * sequence; }
};

// Probabilities are rounded to bfloat16 before they are multiplied, so the tolerances are looser.
// The shapes cover every width of the tensor-core kernels, full and partial, sequences of one,
// several and odd blocks, and for the other kernels a head_dim that is no multiple of 8 and one
// above 128.
constexpr Shape kShapes[] = {{0, 16, 4, 2, 8},   {3, 1, 2, 1, 8},     {2, 37, 3, 3, 5},
                             {1, 150, 4, 2, 64}, {2, 65, 2, 1, 40},   {1, 70, 2, 2, 96},
                             {1, 64, 2, 1, 72},  {1, 130, 2, 1, 128}, {1, 33, 1, 1, 136}};

AttentionForward NewForward(Workbench& bench, const Shape& shape) {
  return {.qkv = bench.Random(
              "qkv", {shape.tokens(), (shape.heads + 2 * shape.kv_heads) * shape.head_dim}),
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

TEST(CudaAttention, ForwardAgrees) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(::testing::Message() << shape.sequence << " x " << shape.head_dim);
    Workbench bench;
    ExpectOnBothDevices(NewForward(bench, shape), {&AttentionForward::lse}, {.looser = 3});
  }
}

TEST(CudaAttention, BackwardAgrees) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(::testing::Message() << shape.sequence << " x " << shape.head_dim);
    Workbench bench;
    const AttentionForward forward = NewForward(bench, shape);
    Compute(bench.ctx(), forward);
    ExpectOnBothDevices(NewBackward(bench, forward), {&AttentionBackward::lse}, {.looser = 3});
  }
}

// More sequences than cuDNN's backward processes in one chunk, with a smaller last chunk.
TEST(CudaAttention, ManySequencesAgree) {
  SKIP_WITHOUT_GPU();
  if (GpuIsEmulated()) GTEST_SKIP() << "takes minutes where the GPU is emulated";
  Workbench bench;
  const AttentionForward forward = NewForward(bench, {40, 1024, 4, 2, 64});
  Compute(bench.ctx(), forward);
  ExpectOnBothDevices(forward, {&AttentionForward::lse}, {.looser = 3});
  ExpectOnBothDevices(NewBackward(bench, forward), {&AttentionBackward::lse}, {.looser = 3});
}

// The maximum of the scores is subtracted before exp can overflow.
TEST(CudaAttention, HugeScoresStayFinite) {
  SKIP_WITHOUT_GPU();
  for (const bool rounded : {false, true}) {
    Workbench bench;
    AttentionForward forward = NewForward(bench, {1, 70, 2, 1, 8});
    for (int64_t i = 0; i < forward.qkv.numel(); ++i) forward.qkv.as<float>()[i] *= 1e4f;
    AttentionBackward backward = NewBackward(bench, forward);
    DeviceCopies copies;
    for (Tensor* tensor : {&forward.qkv, &forward.out}) copies.Move(tensor, rounded);
    copies.Move(&forward.lse, false);
    Compute(copies.ctx(), forward);
    for (Tensor* tensor : {&backward.qkv, &backward.out, &backward.dout, &backward.dqkv}) {
      copies.Move(tensor, rounded);
    }
    copies.Move(&backward.lse, false);
    Compute(copies.ctx(), backward);
    for (const double value : copies.Read(forward.out)) ASSERT_TRUE(std::isfinite(value));
    for (const double value : copies.Read(backward.dqkv)) ASSERT_TRUE(std::isfinite(value));
  }
}

}  // namespace
}  // namespace unipool::testing
