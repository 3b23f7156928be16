// Products with a weight matrix per group (expert). Rows are sorted by group: group g holds rows
// [offsets[g], offsets[g+1]) of the row tensors. A group may hold no row; all rows may be in one.
// On the CPU the offsets end with the number of rows. On CUDA they lie in device memory, and the
// row tensors may be longer: rows from offsets[groups] on are neither read nor written.
//
// Bits on CUDA: a row's result depends on the row and its group's weight alone, never on its place
// or on other rows; a weight gradient, on the rows and on which layers come in one op.
// Bits on the CPU: on any number of threads, and whatever the other groups hold, a group's result
// is the same. Inside a group a row's last bits may follow its place: OpenBLAS 0.3.21's Haswell
// kernel multiplies rows in twelves and adds the last columns of every other six in another order,
// so they depend on the row's number modulo 12 and, in the last twelve, on the number of rows. Its
// SkylakeX kernel (AVX-512) does not, except for products small enough for its separate
// small-matrix kernels.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// On CUDA a block of threads keeps a number per group.
inline constexpr int64_t kMaxCudaGroups = 4096;

// c[r,:] = a[r,:] * op(weight[g]) for each row r of group g; op transposes when transpose_weight.
// Forward of y = x W^T: weight [groups, out, in], transpose_weight = true.
// Input gradient dx = dy W: the same weight, transpose_weight = false.
// Rows are counted from offsets[0], so that a product of some groups takes their rows, weights and
// offsets as parts of the whole ones.
struct GroupedGemm {
  static constexpr char kName[] = "grouped_gemm";
  Tensor a;        // [rows, k]
  Tensor weight;   // [groups, n, k] where transpose_weight, else [groups, k, n]
  Tensor offsets;  // int64 [groups + 1], where the rows are
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
  Tensor offsets;  // int64 [groups + 1], where the rows are
};

// dweight[g] += sum over layers, over rows r of group g, of dy[r,:]^T x[r,:].
// All layers in one op: a shared pool's weight gradient is then read and written once per expert
// while it is in cache, not once per layer. The layers are added in the order given.
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
