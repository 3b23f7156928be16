#include "runtime/ops/top_k.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "runtime/ops/check_ids.h"

namespace unipool {

void TopK::Check() const {
  CHECK_EQ(scores.rank, 2);
  CHECK_EQ(ids.rank, 2);
  CHECK_EQ(ids.dim(0), scores.dim(0));
  CHECK(ids.dim(1) >= 1 && ids.dim(1) <= scores.dim(1))
      << ids.ShapeString() << " for " << scores.ShapeString();
  CHECK(gates.SameShape(ids)) << gates.ShapeString() << " for " << ids.ShapeString();
  CHECK_EQ(counts.numel(), scores.dim(1));
  CHECK(bias.absent() || bias.numel() == scores.dim(1)) << bias.ShapeString();
}

namespace {

constexpr int32_t kTaken = std::numeric_limits<int32_t>::min();

// An integer that orders as the score does, above kTaken: the comparisons of integers vectorize,
// and give an order to NaN too (first or last, by its sign). Adding zero makes -0 equal to +0.
int32_t OrderedKey(float score) {
  const int32_t bits = std::bit_cast<int32_t>(score + 0.0f);
  const int32_t key = bits ^ ((bits >> 31) & std::numeric_limits<int32_t>::max());
  return key > kTaken ? key : kTaken + 1;
}

int32_t MaxKey(const int32_t* keys, int32_t experts) {
  int32_t max = kTaken;
#pragma omp simd reduction(max : max)
  for (int32_t e = 0; e < experts; ++e) max = keys[e] > max ? keys[e] : max;
  return max;
}

int32_t LowestWith(int32_t key, const int32_t* keys, int32_t experts) {
  int32_t lowest = experts;
#pragma omp simd reduction(min : lowest)
  for (int32_t e = 0; e < experts; ++e) {
    const int32_t candidate = keys[e] == key ? e : experts;
    lowest = candidate < lowest ? candidate : lowest;
  }
  return lowest;
}

// k scans of a row of keys that stays in the first cache; k is small.
void Choose(const TopK& op, int64_t t, int32_t* keys) {
  const int64_t k = op.ids.dim(1);
  const int32_t experts = static_cast<int32_t>(op.scores.dim(1));
  const float* scores = op.scores.as<float>() + t * experts;
  int32_t* ids = op.ids.as<int32_t>() + t * k;
  float* gates = op.gates.as<float>() + t * k;
  if (op.bias.absent()) {
#pragma omp simd
    for (int32_t e = 0; e < experts; ++e) keys[e] = OrderedKey(scores[e]);
  } else {
    const float* bias = op.bias.as<float>();
#pragma omp simd
    for (int32_t e = 0; e < experts; ++e) keys[e] = OrderedKey(scores[e] + bias[e]);
  }
  for (int64_t j = 0; j < k; ++j) {
    ids[j] = LowestWith(MaxKey(keys, experts), keys, experts);
    gates[j] = scores[ids[j]];
    keys[ids[j]] = kTaken;
  }
}

}  // namespace

void ComputeOnCpu(const TopK& op) {
  const int64_t tokens = op.scores.dim(0), experts = op.scores.dim(1);
#pragma omp parallel
  {
    thread_local std::vector<int32_t> keys;
    if (static_cast<int64_t>(keys.size()) < experts) keys.resize(static_cast<size_t>(experts));
    int32_t* const scratch = keys.data();
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; ++t) Choose(op, t, scratch);
  }
  const int32_t* ids = op.ids.as<int32_t>();
  int64_t* counts = op.counts.as<int64_t>();
  for (int64_t i = 0; i < op.ids.numel(); ++i) ++counts[ids[i]];
}

void ScoresGradient::Check() const {
  CHECK_EQ(ids.rank, 2);
  CHECK_EQ(dscores.rank, 2);
  CHECK(dgates.SameShape(ids)) << dgates.ShapeString() << " for " << ids.ShapeString();
  CHECK_EQ(dscores.dim(0), ids.dim(0));
  CHECK_EQ(column.numel(), dscores.dim(1));
}

void ComputeOnCpu(const ScoresGradient& op) {
  const int64_t tokens = op.dscores.dim(0), experts = op.dscores.dim(1), k = op.ids.dim(1);
  CheckIds(op.kName, op.ids, experts);
  const int32_t* ids = op.ids.as<int32_t>();
  const float* dgates = op.dgates.as<float>();
  const float* column = op.column.as<float>();
  float* dscores = op.dscores.as<float>();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = dscores + t * experts;
    std::memcpy(row, column, static_cast<size_t>(experts) * sizeof(float));
    for (int64_t i = t * k; i < (t + 1) * k; ++i) row[ids[i]] += dgates[i];
  }
}

void ColumnSums::Check() const {
  CHECK_EQ(scores.rank, 2);
  CHECK_EQ(sums.numel(), scores.dim(1));
}

// Threads split the columns, so each sum runs over the tokens in order whatever their number.
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
  CHECK_EQ(count.numel(), 1);
}

void ComputeOnCpu(const CountUnrouted& op) {
  const int64_t top_k = op.gates.dim(1);
  const float* gates = op.gates.as<float>();
  int64_t unrouted = 0;
  for (int64_t t = 0; t < op.gates.dim(0); ++t) unrouted += gates[t * top_k] <= 0 ? 1 : 0;
  *op.count.as<int64_t>() += unrouted;
}

}  // namespace unipool
