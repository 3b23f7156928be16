#include "runtime/ops/embedding.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::BothDevices;
using testing::Workbench;

struct Shape {
  int64_t tokens, vocab, hidden;
};
// Shapes: empty, a single id, more ids than blocks, rows that are no multiple of a pack, and rows
// that span several blocks.
constexpr Shape kShapes[] = {{0, 5, 8}, {200, 1, 16}, {300, 1500, 24}, {50, 7, 9}, {140, 20, 1100}};

Tensor Tokens(Workbench& bench, int64_t tokens, int64_t vocab) {
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(i * i * 7 % static_cast<size_t>(vocab));
  }
  return bench.Ints({tokens}, ids);
}

TEST(EmbeddingOnBothDevices, ForwardIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, vocab, hidden] : kShapes) {
    Workbench bench;
    BothDevices<EmbeddingForward>{{.tokens = Tokens(bench, tokens, vocab),
                                   .table = bench.Random("table", {vocab, hidden}),
                                   .y = bench.Poisoned({tokens, hidden})}}
        .Expect();
  }
}

TEST(EmbeddingOnBothDevices, BackwardIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, vocab, hidden] : kShapes) {
    Workbench bench;
    BothDevices<EmbeddingBackward>{.op = {.tokens = Tokens(bench, tokens, vocab),
                                          .dy = bench.Random("dy", {tokens, hidden}),
                                          .dtable = bench.Random("dtable", {vocab, hidden})},
                                   .keep = {&EmbeddingBackward::dtable}}
        .Expect();
  }
}

void EmbedAnIdOutsideTheTable() {
  Workbench bench;
  testing::DeviceCopies copies;
  EmbeddingForward op{
      .tokens = bench.Ints({2}, {0, 3}), .table = bench.Zeros({3, 8}), .y = bench.Zeros({2, 8})};
  for (Tensor* tensor : {&op.tokens, &op.table, &op.y}) copies.Move(tensor, false);
  Compute(copies.ctx(), op);
  copies.ctx().stream->Synchronize();
}

TEST(EmbeddingDeathTest, AnIdOutsideTheTableAborts) {
  SKIP_WITHOUT_GPU();
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(EmbedAnIdOutsideTheTable(), "");
}

}  // namespace
}  // namespace unipool
