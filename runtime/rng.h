// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011). Value i of stream s under seed
// k is a pure function of (k, s, i), so any rank can compute any part of any sequence, and the
// values do not depend on the number of ranks.
#pragma once

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "runtime/tensor.h"

namespace unipool {

// Returns a stream number for a name such as "model.norm.weight"; FNV-1a, the same on every
// machine.
uint64_t StreamId(absl::string_view name);

class Rng {
 public:
  Rng(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  // The four 32-bit words of block `block`.
  std::array<uint32_t, 4> Block(uint64_t block) const;
  uint64_t Word64(uint64_t i) const;  // 64 random bits
  double Uniform(uint64_t i) const;   // in (0, 1), 52 bits
  // Writes values 0..numel of the stream, distributed as Normal(0, stddev), to a float32 tensor.
  void FillNormal(float stddev, const Tensor& tensor) const;
  // The same with values uniform in [low, high).
  void FillUniform(float low, float high, const Tensor& tensor) const;

 private:
  uint64_t seed_;
  uint64_t stream_;
};

}  // namespace unipool
