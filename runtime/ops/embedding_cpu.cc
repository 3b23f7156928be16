#include "runtime/ops/embedding.h"

#include <glog/logging.h>
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "runtime/ops/check_ids.h"

namespace unipool {

void EmbeddingForward::Check() const {
  CHECK_EQ(table.rank, 2);
  CHECK_EQ(y.rank, 2);
  CHECK_EQ(y.dim(0), tokens.numel());
  CHECK_EQ(y.dim(1), table.dim(1));
}

void ComputeOnCpu(const EmbeddingForward& op) {
  const int64_t tokens = op.y.dim(0), hidden = op.y.dim(1);
  CheckIds(op.kName, op.tokens, op.table.dim(0));
  const int32_t* ids = op.tokens.as<int32_t>();
  const float* table = op.table.as<float>();
  float* y = op.y.as<float>();
  const size_t row_bytes = static_cast<size_t>(hidden) * sizeof(float);
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    std::memcpy(y + t * hidden, table + ids[t] * hidden, row_bytes);
  }
}

void EmbeddingBackward::Check() const {
  CHECK_EQ(dtable.rank, 2);
  CHECK_EQ(dy.rank, 2);
  CHECK_EQ(dy.dim(0), tokens.numel());
  CHECK_EQ(dy.dim(1), dtable.dim(1));
}

namespace {

void AddColumns(const EmbeddingBackward& op, int64_t begin, int64_t end) {
  const int64_t tokens = op.dy.dim(0), hidden = op.dy.dim(1);
  const int32_t* ids = op.tokens.as<int32_t>();
  for (int64_t t = 0; t < tokens; ++t) {
    const float* dy = op.dy.as<float>() + t * hidden;
    float* row = op.dtable.as<float>() + ids[t] * hidden;
#pragma omp simd
    for (int64_t h = begin; h < end; ++h) row[h] += dy[h];
  }
}

}  // namespace

// Threads split the columns, so each element's sum runs over the tokens in order for any number of
// threads. They split at cache lines, so that they do not share any.
void ComputeOnCpu(const EmbeddingBackward& op) {
  constexpr int64_t kLine = 16;
  const int64_t hidden = op.dy.dim(1), lines = (hidden + kLine - 1) / kLine;
  CheckIds(op.kName, op.tokens, op.dtable.dim(0));
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const int64_t begin = lines * thread / threads * kLine;
    const int64_t end = std::min(hidden, lines * (thread + 1) / threads * kLine);
    if (begin < end) AddColumns(op, begin, end);
  }
}

}  // namespace unipool
