// SwiGLU (Shazeer 2020) of the fused gate and up projection. With gate_up[r] = [gate | up]:
//   y[r,f] = silu(gate[r,f]) * up[r,f],  silu(g) = g / (1 + exp(-g))
// On GPUs all tensors may be bfloat16; arithmetic is float32.
//
// With `offsets`, the rows are those of experts, sorted as in GroupedGemm, and the tensors may be
// longer: rows from offsets[experts] - offsets[0] on are neither read nor written.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

struct SwiGluForward {
  static constexpr char kName[] = "swiglu_forward";
  Tensor gate_up;       // [rows, 2 * ffn]
  Tensor y;             // out [rows, ffn]
  Tensor offsets = {};  // int64 [experts + 1]; absent: all rows
  auto Inputs() { return std::array{&gate_up, &offsets}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const SwiGluForward& op);
void ComputeOnCuda(const SwiGluForward& op, Stream& stream);

// With sig = 1 / (1 + exp(-gate)):
//   dgate = dy * up * sig * (1 + gate * (1 - sig)),  dup = dy * silu(gate)
// Also recomputes y if given, so that the forward need not keep it.
struct SwiGluBackward {
  static constexpr char kName[] = "swiglu_backward";
  Tensor dy;        // [rows, ffn]
  Tensor gate_up;   // [rows, 2 * ffn]
  Tensor dgate_up;  // out [rows, 2 * ffn]; may be the same memory as gate_up
  Tensor y;         // out [rows, ffn], output of the forward; may be the memory of dy; or absent
  Tensor offsets = {};  // int64 [experts + 1]; absent: all rows
  auto Inputs() { return std::array{&dy, &gate_up, &offsets}; }
  auto Outputs() { return std::array{&dgate_up, &y}; }
  void Check() const;
};
void ComputeOnCpu(const SwiGluBackward& op);
void ComputeOnCuda(const SwiGluBackward& op, Stream& stream);

}  // namespace unipool
