// Fixture of op tests: a Context with an arena, and functions that create tensors with random or
// given values.
#pragma once

#include <initializer_list>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "runtime/context.h"
#include "runtime/tensor.h"

namespace unipool::testing {

class Workbench {
 public:
  Workbench();

  Context& ctx() { return ctx_; }
  Arena& arena() { return *arena_; }

  Tensor Zeros(std::initializer_list<int64_t> dims);
  // Filled with NaN, to detect elements that an op does not overwrite.
  Tensor Poisoned(std::initializer_list<int64_t> dims);
  // Normal(0, stddev); the values depend only on the name and the shape.
  Tensor Random(absl::string_view name, std::initializer_list<int64_t> dims, float stddev = 1.0f);
  Tensor Floats(std::initializer_list<int64_t> dims, const std::vector<float>& values);
  Tensor Ints(std::initializer_list<int64_t> dims, const std::vector<int32_t>& values);
  Tensor Longs(std::initializer_list<int64_t> dims, const std::vector<int64_t>& values);
  Tensor Copy(const Tensor& tensor);

 private:
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Stream> stream_;
  Profiler profiler_;
  Context ctx_;
};

std::vector<float> ToVector(const Tensor& tensor);
// Returns sum_i a[i] * b[i] in double, e.g. the scalar loss of a gradient check.
double Dot(const Tensor& a, const Tensor& b);
// Expects |a - b| <= absolute + relative * |b| for every element; a failure names the first and the
// worst element.
void ExpectNear(const Tensor& a, const Tensor& b, double absolute, double relative = 0);

}  // namespace unipool::testing
