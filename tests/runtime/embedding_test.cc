#include "runtime/ops/embedding.h"

#include <gtest/gtest.h>
#include <omp.h>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ToVector;
using testing::Workbench;

TEST(Embedding, ForwardCopiesTheRows) {
  Workbench bench;
  const Tensor table = bench.Floats({3, 2}, {0, 1, 10, 11, 20, 21});
  const Tensor tokens = bench.Ints({4}, {2, 0, 2, 1}), y = bench.Poisoned({4, 2});
  Compute(bench.ctx(), EmbeddingForward{.tokens = tokens, .table = table, .y = y});
  EXPECT_EQ(ToVector(y), (std::vector<float>{20, 21, 0, 1, 20, 21, 10, 11}));
}

TEST(Embedding, BackwardAddsTheRowsOfEqualTokens) {
  Workbench bench;
  const Tensor tokens = bench.Ints({3}, {1, 0, 1});
  const Tensor dy = bench.Floats({3, 2}, {1, 2, 10, 20, 100, 200});
  const Tensor dtable = bench.Floats({3, 2}, {1000, 1000, 2000, 2000, 3000, 3000});
  Compute(bench.ctx(), EmbeddingBackward{.tokens = tokens, .dy = dy, .dtable = dtable});
  EXPECT_EQ(ToVector(dtable), (std::vector<float>{1010, 1020, 2101, 2202, 3000, 3000}));
}

std::vector<float> BackwardWith(int threads, int64_t hidden) {
  Workbench bench;
  const Tensor tokens = bench.arena().New<int32_t>({500});
  for (int32_t t = 0; t < 500; ++t) tokens.as<int32_t>()[t] = t * 7 % 13;
  const Tensor dy = bench.Random("dy", {500, hidden}), dtable = bench.Random("d", {13, hidden});
  omp_set_num_threads(threads);
  Compute(bench.ctx(), EmbeddingBackward{.tokens = tokens, .dy = dy, .dtable = dtable});
  omp_set_num_threads(omp_get_num_procs());
  return ToVector(dtable);
}

TEST(Embedding, BackwardGivesTheSameBitsOnAnyNumberOfThreads) {
  for (const int64_t hidden : {1, 15, 33, 256}) {
    const std::vector<float> one = BackwardWith(1, hidden);
    for (const int threads : {2, 3, 5}) EXPECT_EQ(BackwardWith(threads, hidden), one) << hidden;
  }
}

TEST(Embedding, AcceptsNoTokens) {
  Workbench bench;
  const Tensor tokens = bench.Ints({0}, {}), none = bench.Zeros({0, 2});
  const Tensor dtable = bench.Floats({1, 2}, {5, 6});
  Compute(bench.ctx(), EmbeddingForward{.tokens = tokens, .table = dtable, .y = none});
  Compute(bench.ctx(), EmbeddingBackward{.tokens = tokens, .dy = none, .dtable = dtable});
  EXPECT_EQ(ToVector(dtable), (std::vector<float>{5, 6}));
}

TEST(EmbeddingDeathTest, NamesAnIdOutOfRangeAndItsPosition) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Workbench bench;
  const Tensor table = bench.Zeros({3, 2}), y = bench.Zeros({2, 2});
  EXPECT_DEATH(Compute(bench.ctx(),
                       EmbeddingForward{.tokens = bench.Ints({2}, {2, 3}), .table = table, .y = y}),
               "embedding_forward: id 3 at position 1 of int32.2. is outside .0, 3.");
  EXPECT_DEATH(
      Compute(bench.ctx(),
              EmbeddingBackward{.tokens = bench.Ints({2}, {-1, 9}), .dy = y, .dtable = table}),
      "embedding_backward: id -1 at position 0");
}

}  // namespace
}  // namespace unipool
