// One row of a [tokens, experts] matrix, distributed over the lanes of a warp: lane l owns the
// elements e with e % 32 == l. Rows of up to 1024 elements are kept in registers (RegisterRow),
// longer ones in memory (MemoryRow); both have the same interface, including the choice of the
// largest elements. Included only by *_cuda.cu.
#pragma once

#include "runtime/kernel_cuda.h"

namespace unipool {

// Returns an integer > 0 that is ordered as the score. NaN is ordered too, first or last depending
// on its sign. Adding zero makes -0 equal to +0. 0 is below every score.
__device__ __forceinline__ uint32_t OrderOf(float score) {
  const int32_t bits = __float_as_int(score + 0.0f);
  const int32_t key = bits ^ ((bits >> 31) & 0x7fffffff);
  const uint32_t order = static_cast<uint32_t>(key) ^ 0x80000000u;
  return order > 0 ? order : 1u;
}

struct Choice {
  uint32_t order;  // 0: none
  int expert;
  float score;
};

// Returns the choice of largest order of all lanes, ties to the lowest expert. All lanes must call
// it and get the same result.
__device__ __forceinline__ Choice BestOfWarp(const Choice& mine) {
  const uint32_t order = __reduce_max_sync(kAllLanes, mine.order);
  const uint32_t candidate = mine.order == order ? static_cast<uint32_t>(mine.expert) : ~0u;
  const int expert = static_cast<int>(__reduce_min_sync(kAllLanes, candidate));
  return {order, expert, __shfl_sync(kAllLanes, mine.score, expert % kWarp)};
}

template <int kPerLane>
class RegisterRow {
 public:
  static constexpr int kMax = kPerLane * kWarp;

  __device__ RegisterRow(float* home, int experts) : home_(home), experts_(experts) {}

  // Calls function(e, slot) for this lane's elements in ascending order of e; row[slot] is the
  // value of element e.
  template <typename Function>
  __device__ __forceinline__ void ForEach(const Function& function) const {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int e = i * kWarp + LaneId();
      if (e < experts_) function(e, i);
    }
  }
  __device__ __forceinline__ float& operator[](int slot) { return values_[slot]; }

  __device__ __forceinline__ void Load(const float* from) {
    ForEach([&](int e, int i) { values_[i] = from[e]; });
  }
  __device__ __forceinline__ void Store() const {
    ForEach([&](int e, int i) { home_[e] = values_[i]; });
  }
  // Adds `value` to the element `expert`. All lanes must call it.
  __device__ __forceinline__ void Add(int expert, float value) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (i * kWarp + LaneId() == expert) values_[i] += value;
    }
  }

  // Iterates over the elements in descending order of value + bias, ties to the lowest; `bias` may
  // be null.
  class Choices {
   public:
    __device__ __forceinline__ Choices(RegisterRow& row, const float* bias) : row_(row) {
      row.ForEach(
          [&](int e, int i) { orders_[i] = OrderOf(row[i] + (bias == nullptr ? 0.0f : bias[e])); });
    }
    __device__ __forceinline__ Choice Next() {
      Choice mine = {0, 0, 0.0f};
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        if (orders_[i] > mine.order) mine = {orders_[i], i * kWarp + LaneId(), row_[i]};
      }
      const Choice best = BestOfWarp(mine);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        if (i * kWarp + LaneId() == best.expert) orders_[i] = 0;
      }
      return best;
    }

   private:
    RegisterRow& row_;
    uint32_t orders_[kPerLane] = {};
  };

 private:
  float values_[kPerLane] = {};
  float* home_;
  int experts_;
};

// A row of any length; its values stay in memory at `home`.
class MemoryRow {
 public:
  static constexpr int kMax = 0;  // no per-expert counts in shared memory

  __device__ MemoryRow(float* home, int experts) : home_(home), experts_(experts) {}

  template <typename Function>
  __device__ __forceinline__ void ForEach(const Function& function) const {
#pragma unroll 1  // unrolling would spill registers
    for (int e = LaneId(); e < experts_; e += kWarp) function(e, e);
  }
  __device__ __forceinline__ float& operator[](int slot) { return home_[slot]; }

  __device__ __forceinline__ void Load(const float* from) {
    if (from == home_) return;
    ForEach([&](int e, int) { home_[e] = from[e]; });
  }
  __device__ __forceinline__ void Store() const {}
  __device__ __forceinline__ void Add(int expert, float value) {
    if (expert % kWarp == LaneId()) home_[expert] += value;
  }

  // Scans the row once for each choice: finds the best element after the previous one.
  class Choices {
   public:
    __device__ __forceinline__ Choices(MemoryRow& row, const float* bias)
        : row_(row), bias_(bias) {}
    __device__ __forceinline__ Choice Next() {
      Choice mine = {0, 0, 0.0f};
#pragma unroll 4
      for (int e = LaneId(); e < row_.experts_; e += kWarp) {
        const float score = row_[e];
        const uint32_t order = OrderOf(score + (bias_ == nullptr ? 0.0f : bias_[e]));
        const bool after = order < before_.order || (order == before_.order && e > before_.expert);
        if (after && order > mine.order) mine = {order, e, score};
      }
      before_ = BestOfWarp(mine);
      return before_;
    }

   private:
    MemoryRow& row_;
    const float* bias_;
    Choice before_ = {~0u, -1, 0.0f};
  };

 private:
  float* home_;
  int experts_;
};

template <typename Row>
struct RowTag {
  using Type = Row;
};
// Calls function(RowTag<Row>{}) with the smallest Row that holds `experts` elements. The sizes
// match common expert pools.
template <typename Function>
void ForRow(int64_t experts, Function function) {
  if (experts <= 32) return function(RowTag<RegisterRow<1>>{});
  if (experts <= 96) return function(RowTag<RegisterRow<3>>{});
  if (experts <= 192) return function(RowTag<RegisterRow<6>>{});
  if (experts <= 384) return function(RowTag<RegisterRow<12>>{});
  if (experts <= 1024) return function(RowTag<RegisterRow<32>>{});
  function(RowTag<MemoryRow>{});
}

}  // namespace unipool
