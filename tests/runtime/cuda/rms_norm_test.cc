#include "runtime/ops/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::BothDevices;
using testing::Workbench;

struct Shape {
  int64_t tokens, hidden;
};
// Shapes: empty, one row, odd rows and columns, more rows than the backward has blocks, and a row
// too long for one pack per thread.
constexpr Shape kShapes[] = {{0, 64}, {1, 8}, {5, 70}, {33, 768}, {1100, 40}, {3, 8000}, {2, 1500}};

TEST(RmsNormOnBothDevices, ForwardIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, hidden] : kShapes) {
    Workbench bench;
    BothDevices<RmsNormForward>{.op = {.x = bench.Random("x", {tokens, hidden}),
                                       .weight = bench.Random("weight", {hidden}),
                                       .eps = 1e-5f,
                                       .y = bench.Poisoned({tokens, hidden}),
                                       .rstd = bench.Poisoned({tokens})},
                                .keep = {&RmsNormForward::rstd}}
        .Expect();
  }
}

TEST(RmsNormOnBothDevices, BackwardIsTheSame) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, hidden] : kShapes) {
    for (const bool add : {false, true}) {
      Workbench bench;
      const Tensor rstd = bench.Random("rstd", {tokens});
      const Tensor dx =
          add ? bench.Random("dx", {tokens, hidden}) : bench.Poisoned({tokens, hidden});
      BothDevices<RmsNormBackward>{.op = {.dy = bench.Random("dy", {tokens, hidden}),
                                          .x = bench.Random("x", {tokens, hidden}),
                                          .weight = bench.Random("weight", {hidden}),
                                          .rstd = rstd,
                                          .dx = dx,
                                          .dweight = bench.Random("dweight", {hidden}),
                                          .add_to_dx = add},
                                   .keep = {&RmsNormBackward::rstd, &RmsNormBackward::dweight}}
          .Expect();
    }
  }
}

TEST(RmsNormOnBothDevices, ARowWhoseSquaresOverflowIsNaNOnBoth) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  BothDevices<RmsNormForward>{.op = {.x = bench.Floats({2, 2}, {3e30f, 1, NAN, 1}),
                                     .weight = bench.Floats({2}, {1, 1}),
                                     .eps = 1e-5f,
                                     .y = bench.Zeros({2, 2}),
                                     .rstd = bench.Zeros({2})},
                              .keep = {&RmsNormForward::rstd}}
      .Expect();
}

}  // namespace
}  // namespace unipool
