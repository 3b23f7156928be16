#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "runtime/ops/check_ids.h"
#include "runtime/ops/expert_order.h"
#include "runtime/ops/row_index.h"

namespace unipool {
namespace {

// Scratch for the next row of each key, kept by the thread between calls.
int64_t* NextRows(int64_t size) {
  thread_local std::vector<int64_t> next;
  if (static_cast<int64_t>(next.size()) < size) next.resize(static_cast<size_t>(size));
  return next.data();
}

}  // namespace

void SortByExpert::Check() const {
  CHECK_EQ(ids.rank, 2) << ids.ShapeString();
  CHECK_LE(ids.numel(), std::numeric_limits<int32_t>::max());
  CHECK(gates.absent() || gates.SameShape(ids))
      << gates.ShapeString() << " for " << ids.ShapeString();
  CHECK_EQ(count_order.numel(), order.numel());
  CHECK_EQ(counts.numel(), order.numel());
  CHECK_EQ(send_index.numel(), ids.numel());
  CHECK(positions.SameShape(ids)) << positions.ShapeString() << " for " << ids.ShapeString();
}

void ComputeOnCpu(const SortByExpert& op) {
  const int64_t experts = op.order.numel(), k = op.ids.dim(1);
  CheckIds(op.kName, op.ids, experts);
  const int32_t* ids = op.ids.as<int32_t>();
  const float* gates = op.gates.absent() ? nullptr : op.gates.as<float>();
  const auto has_row = [gates](int64_t pair) { return gates == nullptr || gates[pair] != 0; };
  const int32_t* order = op.order.as<int32_t>();
  const int32_t* count_order = op.count_order.as<int32_t>();
  int64_t* next = NextRows(experts);
  std::fill_n(next, experts, 0);
  int64_t rows = 0;
  for (int64_t i = 0; i < op.ids.numel(); ++i) {
    if (!has_row(i)) continue;
    ++next[order[ids[i]]];
    ++rows;
  }
  for (int64_t e = 0; e < experts; ++e) op.counts.as<int64_t>()[count_order[e]] = next[order[e]];
  std::exclusive_scan(next, next + experts, next, int64_t{0});
  int32_t* send_index = op.send_index.as<int32_t>();
  std::fill(send_index + rows, send_index + op.ids.numel(), kNoRow);
  int32_t* positions = op.positions.as<int32_t>();
  for (int64_t t = 0; t < op.ids.dim(0); ++t) {
    for (int64_t i = t * k; i < (t + 1) * k; ++i) {
      positions[i] = kNoRow;
      if (!has_row(i)) continue;
      const int64_t row = next[order[ids[i]]]++;
      positions[i] = static_cast<int32_t>(row);
      send_index[row] = static_cast<int32_t>(t);
    }
  }
}

void OrderArrivals::Check() const {
  CHECK_EQ(counts.rank, 2) << counts.ShapeString();
  CHECK_EQ(offsets.numel(), counts.dim(1) + 1);
  CHECK_GE(chunks, 1);
  CHECK_EQ(to_slot_order.absent(), to_arrival_order.absent());
  CHECK_EQ(to_slot_order.numel(), to_arrival_order.numel());
  CHECK_LE(to_slot_order.numel(), std::numeric_limits<int32_t>::max());
}

void ComputeOnCpu(const OrderArrivals& op) {
  const int64_t sources = op.counts.dim(0), slots = op.counts.dim(1);
  const int64_t* counts = op.counts.as<int64_t>();
  int64_t* offsets = op.offsets.as<int64_t>();
  std::fill_n(offsets, slots + 1, 0);
  for (int64_t i = 0; i < op.counts.numel(); ++i) offsets[i % slots + 1] += counts[i];
  std::inclusive_scan(offsets, offsets + slots + 1, offsets);
  if (op.to_slot_order.absent()) return;
  CHECK_EQ(op.to_slot_order.numel(), offsets[slots]);
  int64_t* next = NextRows(slots);
  std::copy_n(offsets, slots, next);
  int32_t* to_slot_order = op.to_slot_order.as<int32_t>();
  int32_t* to_arrival_order = op.to_arrival_order.as<int32_t>();
  int32_t arrival = 0;
  const auto arrive = [&](int64_t source, int64_t slot) {
    int64_t& row = next[slot];
    for (int64_t n = 0; n < counts[source * slots + slot]; ++n, ++arrival, ++row) {
      to_slot_order[row] = arrival;
      to_arrival_order[arrival] = static_cast<int32_t>(row);
    }
  };
  for (int64_t chunk = 0; chunk < op.chunks; ++chunk) {
    const int64_t begin = ChunkBegin(slots, op.chunks, chunk);
    const int64_t end = ChunkBegin(slots, op.chunks, chunk + 1);
    for (int64_t source = 0; source < sources; ++source) {
      for (int64_t slot = begin; slot < end; ++slot) arrive(source, slot);
    }
  }
}

}  // namespace unipool
