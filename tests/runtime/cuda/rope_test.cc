#include "runtime/ops/rope.h"

#include <gtest/gtest.h>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::BothDevices;
using testing::Workbench;

TEST(RopeOnBothDevices, TheTableIsTheSame) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  BothDevices<RopeTable>{.op = {.base = 10000, .table = bench.Poisoned({300, 64})},
                         .options = {.bfloat16 = false}}
      .Expect();
}

struct Shape {
  int64_t tokens, columns, heads, head_dim;
};

TEST(RopeOnBothDevices, RotatesTheSameHeadsByTheSameAngles) {
  SKIP_WITHOUT_GPU();
  // The third shape has columns after the rotated heads; the halves of the fourth are no multiple
  // of a pack.
  for (const auto [tokens, columns, heads, head_dim] : {Shape{0, 64, 1, 64},
                                                        {37, 192, 3, 64},
                                                        {10, 320, 4, 64},
                                                        {6, 30, 3, 6},
                                                        {2, 4096, 32, 128}}) {
    for (const bool inverse : {false, true}) {
      Workbench bench;
      const Tensor table = bench.Poisoned({16, head_dim});
      Compute(bench.ctx(), RopeTable{.base = 10000, .table = table});
      BothDevices<Rope>{.op = {.x = bench.Random("x", {tokens, columns}),
                               .table = table,
                               .heads = heads,
                               .sequence = 16,
                               .inverse = inverse},
                        .keep = {&Rope::table}}
          .Expect();
    }
  }
}

}  // namespace
}  // namespace unipool
