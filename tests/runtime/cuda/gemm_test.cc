#include "runtime/ops/gemm.h"

#include <gtest/gtest.h>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::BothDevices;
using testing::Workbench;

struct Shape {
  int64_t m, n, k;
};

Gemm Product(Workbench& bench, const Shape& shape, int transposes, bool accumulate) {
  const auto [m, n, k] = shape;
  const bool a = transposes % 2 == 1, b = transposes / 2 == 1;
  return {.a = a ? bench.Random("a", {k, m}) : bench.Random("a", {m, k}),
          .b = b ? bench.Random("b", {n, k}) : bench.Random("b", {k, n}),
          .c = accumulate ? bench.Random("c", {m, n}) : bench.Poisoned({m, n}),
          .transpose_a = a,
          .transpose_b = b,
          .accumulate = accumulate};
}

// Accumulates on a base that is not the output.
void ExpectOnTopOfABase(Workbench& bench, Gemm op) {
  op.base = op.c;
  op.c = bench.Poisoned({op.base.dim(0), op.base.dim(1)});
  BothDevices<Gemm>{op}.Expect();
}

TEST(GemmOnBothDevices, IsTheSameForAllTransposes) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : {Shape{1, 1, 1}, {7, 9, 5}, {64, 96, 128}, {0, 8, 8}, {8, 8, 0}}) {
    for (int transposes = 0; transposes < 4; ++transposes) {
      for (const bool accumulate : {false, true}) {
        Workbench bench;
        const Gemm op = Product(bench, shape, transposes, accumulate);
        BothDevices<Gemm>{op}.Expect();
        BothDevices<Gemm>{.op = op, .keep = {&Gemm::c}}.Expect();
        if (accumulate) ExpectOnTopOfABase(bench, op);
      }
    }
  }
}

}  // namespace
}  // namespace unipool
