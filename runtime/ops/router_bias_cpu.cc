#include "runtime/ops/router_bias.h"

#include <glog/logging.h>

#include <numeric>

namespace unipool {

void MoveRouterBias::Check() const {
  CHECK_EQ(counts.rank, 1);
  CHECK(bias.SameShape(counts)) << bias.ShapeString() << " for " << counts.ShapeString();
}

void ComputeOnCpu(const MoveRouterBias& op) {
  const int64_t experts = op.counts.dim(0);
  const int64_t* counts = op.counts.as<int64_t>();
  float* bias = op.bias.as<float>();
  const int64_t total = std::accumulate(counts, counts + experts, int64_t{0});
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t below_mean = total - counts[e] * experts;
    if (below_mean > 0) bias[e] += op.rate;
    if (below_mean < 0) bias[e] -= op.rate;
  }
}

}  // namespace unipool
