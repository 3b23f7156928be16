// The plain ones.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// y = a + b; y may be the same memory as a or b.
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

// x = value, for tensors of any dtype.
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

// y = x, element by element; the same shape and dtype.
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

// y = x from float32 to bfloat16, rounded to nearest even, or back.
struct Cast {
  static constexpr char kName[] = "cast";
  Tensor x;
  Tensor y;  // out, of the other type
  auto Inputs() { return std::array{&x}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const Cast& op);
void ComputeOnCuda(const Cast& op, Stream& stream);

// sum += sum_i x[i]^2 in double, over fixed blocks: the same bits on any number of threads,
// and on any GPU.
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
