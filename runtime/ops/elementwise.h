// Elementwise ops and the sum of squares.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// y = a + b; all of one shape and dtype; y may be the same memory as a or b. bfloat16 on GPUs only.
struct Add {
  static constexpr char kName[] = "add";
  Tensor a;  // any shape
  Tensor b;
  Tensor y;  // out
  auto Inputs() { return std::array{&a, &b}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const Add& op);
void ComputeOnCuda(const Add& op, Stream& stream);

// x[i] = value for every element, converted to the dtype of x (any).
struct Fill {
  static constexpr char kName[] = "fill";
  Tensor x;  // out
  double value;
  auto Inputs() { return std::array<Tensor*, 0>{}; }
  auto Outputs() { return std::array{&x}; }
  void Check() const;
};
void ComputeOnCpu(const Fill& op);
void ComputeOnCuda(const Fill& op, Stream& stream);

// y = x; x and y have the same shape and dtype.
struct Copy {
  static constexpr char kName[] = "copy";
  Tensor x;
  Tensor y;  // out
  auto Inputs() { return std::array{&x}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const Copy& op);
void ComputeOnCuda(const Copy& op, Stream& stream);

// y = x converted from float32 to bfloat16 (round to nearest, ties to even), or from bfloat16 to
// float32.
struct Cast {
  static constexpr char kName[] = "cast";
  Tensor x;
  Tensor y;  // out, shape of x, the other of the two types
  auto Inputs() { return std::array{&x}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const Cast& op);
void ComputeOnCuda(const Cast& op, Stream& stream);

// sum += sum_i x[i]^2 in double, summed over fixed blocks, so the bits do not depend on the number
// of threads, nor on the model of GPU.
struct SumOfSquares {
  static constexpr char kName[] = "sum_of_squares";
  Tensor x;    // float32, any shape
  Tensor sum;  // in/out float64 [1], added to
  auto Inputs() { return std::array{&x}; }
  auto Outputs() { return std::array{&sum}; }
  void Check() const;
};
void ComputeOnCpu(const SumOfSquares& op);
void ComputeOnCuda(const SumOfSquares& op, Stream& stream);

}  // namespace unipool
