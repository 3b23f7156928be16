// Products with one weight matrix per group (expert). Rows are sorted by group: group g holds rows
// [offsets[g], offsets[g+1]). A group may be empty; one group may hold all rows. On the CPU the
// offsets must cover exactly the rows of the tensors. On CUDA the offsets are in device memory and
// the row tensors may be longer: rows from offsets[groups] on are neither read nor written.
//
// Bits on CUDA: the result of a row depends only on that row and its group's weight, not on its
// position or on other rows. A weight gradient depends on the rows and on which layers are in one
// op.
//
// Bits on the CPU: the result of a group does not depend on the number of threads or on the other
// groups. Within a group, the last bits of a row may depend on its position: OpenBLAS 0.3.21's
// Haswell kernel multiplies rows in blocks of twelve and adds the last columns of every other six
// in another order, so the bits depend on the row's index modulo 12 and, in the last twelve rows,
// on the number of rows. Its SkylakeX kernel (AVX-512) has no such dependence, except for products
// small enough for its separate small-matrix kernels.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// Limit on CUDA, because a thread block keeps one number per group in shared memory.
inline constexpr int64_t kMaxCudaGroups = 4096;

// c[r,:] = a[r,:] * op(weight[g]) for each row r of group g; op transposes if transpose_weight.
// - Forward of y = x W^T: weight [groups, out, in], transpose_weight = true.
// - Input gradient dx = dy W: the same weight, transpose_weight = false.
//
// Row r of the tensors is row offsets[0] + r of the groups, so an op on a range of groups takes
// subviews of the rows, weights and offsets. On the CPU offsets[groups] - offsets[0] = rows. On
// GPUs a, weight and c may be bfloat16, with float32 sums.
struct GroupedGemm {
  static constexpr char kName[] = "grouped_gemm";
  Tensor a;        // [rows, k]
  Tensor weight;   // [groups, n, k] if transpose_weight, else [groups, k, n]
  Tensor offsets;  // int64 [groups + 1], on the device of the rows
  Tensor c;        // out [rows, n]
  bool transpose_weight;
  auto Inputs() { return std::array{&a, &weight, &offsets}; }
  auto Outputs() { return std::array{&c}; }
  void Check() const;
};
void ComputeOnCpu(const GroupedGemm& op);
void ComputeOnCuda(const GroupedGemm& op, Stream& stream);

// One layer's rows for a weight gradient.
struct GroupedRows {
  Tensor dy;       // [rows, out]
  Tensor x;        // [rows, in]
  Tensor offsets;  // int64 [groups + 1], on the device of the rows
};

// dweight[g] += sum over layers, over rows r of group g, of dy[r,:]^T x[r,:].
// All layers in one op: a shared pool's weight gradient is then read and written once per expert
// while it is in cache, not once per layer. The layers are added in the order given. On GPUs dy and
// x may be bfloat16. On the CPU the offsets of every layer begin at 0.
struct GroupedWeightGradient {
  static constexpr char kName[] = "grouped_weight_gradient";
  const GroupedRows* layers;  // num_layers of them, borrowed for the call
  int64_t num_layers;
  Tensor dweight;  // in/out float32 [groups, out, in], added to
  auto Inputs() { return std::array<Tensor*, 0>{}; }
  auto Outputs() { return std::array{&dweight}; }
  void Check() const;
};
void ComputeOnCpu(const GroupedWeightGradient& op);
void ComputeOnCuda(const GroupedWeightGradient& op, Stream& stream);

}  // namespace unipool
