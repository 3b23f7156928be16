#include "runtime/ops/top_k.h"

#include <glog/logging.h>

#include <algorithm>
#include <vector>

#include "runtime/ops/check_ids.h"
#include "runtime/ops/choose_largest.h"

namespace unipool {

void TopK::Check() const {
  CHECK_EQ(scores.rank, 2);
  CHECK_EQ(ids.rank, 2);
  CHECK_EQ(ids.dim(0), scores.dim(0));
  CHECK(ids.dim(1) >= 1 && ids.dim(1) <= scores.dim(1))
      << ids.ShapeString() << " for " << scores.ShapeString();
  CHECK(values.SameShape(ids)) << values.ShapeString() << " for " << ids.ShapeString();
}

void ComputeOnCpu(const TopK& op) {
  const int64_t tokens = op.scores.dim(0), k = op.ids.dim(1);
  const int32_t count = static_cast<int32_t>(op.scores.dim(1));
#pragma omp parallel
  {
    thread_local std::vector<int32_t> scratch;
    if (static_cast<int32_t>(scratch.size()) < count) scratch.resize(static_cast<size_t>(count));
    int32_t* const keys = scratch.data();
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; ++t) {
      const float* scores = op.scores.as<float>() + t * count;
      int32_t* ids = op.ids.as<int32_t>() + t * k;
#pragma omp simd
      for (int32_t i = 0; i < count; ++i) keys[i] = OrderedKey(scores[i]);
      ChooseLargest(keys, count, k, ids);
      for (int64_t j = 0; j < k; ++j) op.values.as<float>()[t * k + j] = scores[ids[j]];
    }
  }
}

void ColumnSums::Check() const {
  CHECK_EQ(scores.rank, 2);
  CHECK_EQ(sums.numel(), scores.dim(1));
}

// Threads split the columns, so each sum runs over the tokens in order for any number of threads.
void ComputeOnCpu(const ColumnSums& op) {
  constexpr int64_t kColumns = 16;
  const int64_t tokens = op.scores.dim(0), experts = op.scores.dim(1);
  const float* scores = op.scores.as<float>();
  double* sums = op.sums.as<double>();
#pragma omp parallel for schedule(static)
  for (int64_t begin = 0; begin < experts; begin += kColumns) {
    const int64_t columns = std::min(kColumns, experts - begin);
    double block[kColumns] = {};
    for (int64_t t = 0; t < tokens; ++t) {
      const float* row = scores + t * experts + begin;
      for (int64_t e = 0; e < columns; ++e) block[e] += double{row[e]};
    }
    for (int64_t e = 0; e < columns; ++e) sums[begin + e] += block[e];
  }
}

void CountUnrouted::Check() const {
  CHECK_EQ(gates.rank, 2);
  CHECK(ids.SameShape(gates)) << ids.ShapeString() << " for " << gates.ShapeString();
  CHECK_EQ(tokens.numel(), 1);
  CHECK_EQ(choices.rank, 1);
}

void ComputeOnCpu(const CountUnrouted& op) {
  CheckIds(op.kName, op.ids, op.choices.numel());
  const int64_t top_k = op.gates.dim(1);
  const int32_t* ids = op.ids.as<int32_t>();
  const float* gates = op.gates.as<float>();
  int64_t* choices = op.choices.as<int64_t>();
  int64_t unrouted = 0;
  for (int64_t t = 0; t < op.gates.dim(0); ++t) unrouted += gates[t * top_k] <= 0 ? 1 : 0;
  for (int64_t i = 0; i < op.gates.numel(); ++i) choices[ids[i]] += gates[i] == 0 ? 1 : 0;
  *op.tokens.as<int64_t>() += unrouted;
}

}  // namespace unipool
