#include "comm/rank_order_reduce.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstring>

namespace unipool {
namespace {

// Small enough to stay in the L1 cache while the contributions of all ranks are added to it.
constexpr int64_t kBlockBytes = 8192;

template <typename T>
void Accumulate(ReduceOp op, const T* __restrict x, int64_t numel, T* __restrict sum) {
  if (op == ReduceOp::kSum) {
    for (int64_t i = 0; i < numel; ++i) sum[i] += x[i];
  } else {
    for (int64_t i = 0; i < numel; ++i) sum[i] = std::max(sum[i], x[i]);
  }
}

template <typename T>
void ReduceTyped(const RankOrderReduce& reduce) {
  constexpr int64_t kBlock = kBlockBytes / sizeof(T);
  alignas(64) T sum[kBlock];
  for (int64_t begin = 0; begin < reduce.numel; begin += kBlock) {
    const int64_t numel = std::min(kBlock, reduce.numel - begin);
    const size_t bytes = static_cast<size_t>(numel) * sizeof(T);
    std::memcpy(sum, static_cast<const T*>(reduce.contributions[0]) + begin, bytes);
    for (const void* x : reduce.contributions.subspan(1)) {
      Accumulate(reduce.op, static_cast<const T*>(x) + begin, numel, sum);
    }
    for (void* y : reduce.outputs) std::memcpy(static_cast<T*>(y) + begin, sum, bytes);
  }
}

}  // namespace

int64_t PartBegin(int64_t numel, int parts, int part) {
  return numel / parts * part + std::min<int64_t>(numel % parts, part);
}

void Reduce(const RankOrderReduce& reduce) {
  switch (reduce.dtype) {
    case DType::kFloat32:
      return ReduceTyped<float>(reduce);
    case DType::kFloat64:
      return ReduceTyped<double>(reduce);
    case DType::kInt32:
      return ReduceTyped<int32_t>(reduce);
    case DType::kInt64:
      return ReduceTyped<int64_t>(reduce);
    case DType::kBFloat16:
      break;
  }
  LOG(FATAL) << "cannot reduce " << Name(reduce.dtype)
             << " tensors; convert them to float32 before the call";
}

}  // namespace unipool
