#include "runtime/ops/cross_entropy.h"

#include <gtest/gtest.h>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool::testing {
namespace {

Tensor Targets(Workbench& bench, int64_t tokens, int64_t vocab) {
  std::vector<int32_t> targets;
  for (int64_t t = 0; t < tokens; ++t) targets.push_back(static_cast<int32_t>(t * 7919 % vocab));
  return bench.Ints({tokens}, targets);
}

// Vocabulary sizes: one column, odd, and smaller and larger than what a block reads in one pass.
constexpr int64_t kVocabs[] = {1, 37, 2048, 5003, 9600};

TEST(CudaCrossEntropy, LossesAgree) {
  SKIP_WITHOUT_GPU();
  for (const int64_t vocab : kVocabs) {
    Workbench bench;
    ExpectOnBothDevices(CrossEntropyForward{.logits = bench.Random("logits", {3, vocab}, 4.0f),
                                            .targets = Targets(bench, 3, vocab),
                                            .losses = bench.Poisoned({3})},
                        {&CrossEntropyForward::losses});
  }
}

TEST(CudaCrossEntropy, GradientsAgreeInPlace) {
  SKIP_WITHOUT_GPU();
  for (const int64_t vocab : kVocabs) {
    Workbench bench;
    ExpectOnBothDevices(CrossEntropyGradient{.logits = bench.Random("logits", {3, vocab}, 4.0f),
                                             .targets = Targets(bench, 3, vocab),
                                             .scale = 0.25f,
                                             .losses = bench.Poisoned({3})},
                        {&CrossEntropyGradient::losses});
  }
}

TEST(CudaCrossEntropy, AcceptsNoTokensAndHugeLogits) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  const Tensor none = bench.Zeros({0, 16});
  ExpectOnBothDevices(
      CrossEntropyGradient{
          .logits = none, .targets = Targets(bench, 0, 16), .scale = 1, .losses = bench.Zeros({0})},
      {&CrossEntropyGradient::losses});
  ExpectOnBothDevices(
      CrossEntropyGradient{.logits = bench.Floats({1, 4}, {30000, -30000, 29952, 0}),
                           .targets = bench.Ints({1}, {2}),
                           .scale = 1,
                           .losses = bench.Poisoned({1})},
      {&CrossEntropyGradient::losses});
}

TEST(CudaCrossEntropy, SumsOfLossesAgree) {
  SKIP_WITHOUT_GPU();
  for (const int64_t tokens : {0, 1, 33, 1025, 5000}) {
    Workbench bench;
    const Tensor sum = bench.arena().New<double>({1});
    *sum.as<double>() = 2;
    ExpectOnBothDevices(
        SumLosses{.losses = bench.Random("losses", {tokens}), .weight = 0.5, .sum = sum}, {},
        {.bfloat16 = false});
  }
}

TEST(CudaCrossEntropyDeathTest, ATargetOutsideOfTheVocabularyStops) {
  if (!GpuIsEmulated()) GTEST_SKIP() << "would leave the GPU unusable for the other tests";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Workbench bench;
  CrossEntropyForward op{.logits = bench.Zeros({2, 8}),
                         .targets = bench.Ints({2}, {7, 8}),
                         .losses = bench.Poisoned({2})};
  const auto run = [&] {
    DeviceCopies copies;
    for (Tensor* tensor : {&op.logits, &op.targets, &op.losses}) copies.Move(tensor, false);
    Compute(copies.ctx(), op);
  };
  EXPECT_DEATH(run(), "block .1, 0, 0.: __trap");
}

}  // namespace
}  // namespace unipool::testing
