#include "runtime/ops/bf16_terms.h"

#include <gtest/gtest.h>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::BothDevices;
using testing::Workbench;

// Shapes with packs of four, without packs, and without rows.
constexpr int64_t kSizes[][2] = {{300, 96}, {1, 768 * 96}, {5, 7}, {0, 8}};

TEST(Bf16TermsOnBothDevices, SplitIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const auto& [rows, columns] : kSizes) {
    for (const int64_t blocks : {1, 3, 4}) {
      Workbench bench;
      BothDevices<SplitTerms>{.op = {.x = bench.Random("x", {rows, columns}),
                                     .terms = {0, 1, 2, 0},
                                     .y = bench.arena().New<BFloat16>({rows, blocks * columns})},
                              .options = {.bfloat16 = false}}
          .Expect();
    }
  }
}

TEST(Bf16TermsOnBothDevices, SumIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const auto& [rows, columns] : kSizes) {
    for (const int64_t blocks : {3, 4}) {
      Workbench bench;
      const Tensor x = bench.Random("x", {rows, blocks * columns});
      BothDevices<SumTerms>{
          .op = {.x = x, .accumulate = false, .y = bench.Poisoned({rows, columns})},
          .options = {.bfloat16 = false}}
          .Expect();
      BothDevices<SumTerms>{
          .op = {.x = x, .accumulate = true, .y = bench.Random("y", {rows, columns})},
          .options = {.bfloat16 = false}}
          .Expect();
    }
  }
}

}  // namespace
}  // namespace unipool
