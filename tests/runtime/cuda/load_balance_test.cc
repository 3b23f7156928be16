#include "runtime/ops/load_balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool::testing {
namespace {

constexpr int64_t kExperts[] = {1, 7, 96, 4096};

std::vector<int64_t> Counts(int64_t size) {
  std::vector<int64_t> counts(static_cast<size_t>(size));
  for (size_t i = 0; i < counts.size(); ++i) counts[i] = static_cast<int64_t>(i * i % 11);
  return counts;
}

Tensor Doubles(Workbench& bench, const char* name, std::initializer_list<int64_t> dims) {
  const Tensor floats = bench.Random(name, dims), doubles = bench.arena().New<double>(dims);
  std::copy_n(floats.as<float>(), floats.numel(), doubles.as<double>());
  return doubles;
}

TEST(CudaLoadBalance, CountsAreTakenAlike) {
  SKIP_WITHOUT_GPU();
  for (const int64_t size : {int64_t{1}, int64_t{1153}}) {
    Workbench bench;
    ExpectOnBothDevices(AccumulateCounts{.counts = bench.Longs({size}, Counts(size)),
                                         .step = bench.Longs({size}, Counts(size)),
                                         .previous = bench.Longs({size}, Counts(size))},
                        {}, {.bfloat16 = false});
  }
}

TEST(CudaLoadBalance, SharesAgree) {
  SKIP_WITHOUT_GPU();
  for (const int64_t experts : kExperts) {
    for (const int64_t layers : {1, 3}) {
      for (const bool counted : {true, false}) {
        Workbench bench;
        std::vector<int64_t> counts = Counts(layers * experts);
        if (!counted) std::fill(counts.begin(), counts.end(), 0);
        ExpectOnBothDevices(LoadShares{.counts = bench.Longs({layers, experts}, counts),
                                       .factor = 0.75,
                                       .shares = Doubles(bench, "shares", {experts})},
                            {}, {.bfloat16 = false});
      }
    }
  }
}

TEST(CudaLoadBalance, LossesAndDerivativesAgree) {
  SKIP_WITHOUT_GPU();
  for (const int64_t experts : kExperts) {
    Workbench bench;
    ExpectOnBothDevices(BalanceLoss{.column_sums = Doubles(bench, "sums", {experts}),
                                    .weights = Doubles(bench, "weights", {2, experts}),
                                    .losses = Doubles(bench, "losses", {2}),
                                    .score_gradient = bench.Poisoned({experts})},
                        {}, {.bfloat16 = false});
  }
}

}  // namespace
}  // namespace unipool::testing
