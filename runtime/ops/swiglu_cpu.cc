#include <glog/logging.h>

#include "runtime/ops/swiglu.h"
#include "runtime/ops/vector_math.h"

namespace unipool {
namespace {

void CheckOffsets(const Tensor& offsets, int64_t rows) {
  if (offsets.absent()) return;
  CHECK_GE(offsets.numel(), 1);
  if (offsets.device.type != DeviceType::kCpu) return;  // reading them would wait for the GPU
  const int64_t* offset = offsets.as<int64_t>();
  CHECK_LE(offset[offsets.numel() - 1] - offset[0], rows);
}

// The number of rows to compute, of `rows` in the tensors.
int64_t RowsOf(const Tensor& offsets, int64_t rows) {
  if (offsets.absent()) return rows;
  return offsets.as<int64_t>()[offsets.numel() - 1] - offsets.as<int64_t>()[0];
}

}  // namespace

void SwiGluForward::Check() const {
  CHECK(gate_up.rank == 2 && y.rank == 2);
  CHECK_EQ(y.dim(0), gate_up.dim(0));
  CHECK_EQ(2 * y.dim(1), gate_up.dim(1));
  CheckOffsets(offsets, y.dim(0));
}

void ComputeOnCpu(const SwiGluForward& op) {
  const int64_t rows = RowsOf(op.offsets, op.y.dim(0)), ffn = op.y.dim(1);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = op.gate_up.as<float>() + r * 2 * ffn;
    const float* up = gate + ffn;
    float* y = op.y.as<float>() + r * ffn;
#pragma omp simd
    for (int64_t f = 0; f < ffn; ++f) y[f] = gate[f] / (1.0f + FastExp(-gate[f])) * up[f];
  }
}

void SwiGluBackward::Check() const {
  CHECK_EQ(gate_up.rank, 2);
  CHECK_EQ(dy.rank, 2);
  CHECK_EQ(dy.dim(0), gate_up.dim(0));
  CHECK_EQ(2 * dy.dim(1), gate_up.dim(1));
  CHECK(dgate_up.SameShape(gate_up)) << dgate_up.ShapeString();
  CHECK(y.absent() || y.SameShape(dy)) << y.ShapeString();
  CheckOffsets(offsets, dy.dim(0));
}

namespace {

// The outputs may alias the inputs: all inputs of an element are read before its outputs are
// written.
template <bool kWithY>
void BackwardRow(const SwiGluBackward& op, int64_t r) {
  const int64_t ffn = op.dy.dim(1);
  const float* gate = op.gate_up.as<float>() + r * 2 * ffn;
  const float* up = gate + ffn;
  const float* dy = op.dy.as<float>() + r * ffn;
  float* dgate = op.dgate_up.as<float>() + r * 2 * ffn;
  float* dup = dgate + ffn;
  float* y = kWithY ? op.y.as<float>() + r * ffn : nullptr;
#pragma omp simd
  for (int64_t f = 0; f < ffn; ++f) {
    const float g = gate[f], u = up[f], d = dy[f];
    const float sigmoid = 1.0f / (1.0f + FastExp(-g));
    const float silu = g * sigmoid;
    dgate[f] = d * u * sigmoid * (1.0f + g * (1.0f - sigmoid));
    dup[f] = d * silu;
    if constexpr (kWithY) y[f] = silu * u;
  }
}

}  // namespace

void ComputeOnCpu(const SwiGluBackward& op) {
  const int64_t rows = RowsOf(op.offsets, op.dy.dim(0));
  const bool with_y = !op.y.absent();
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    if (with_y) {
      BackwardRow<true>(op, r);
    } else {
      BackwardRow<false>(op, r);
    }
  }
}

}  // namespace unipool
