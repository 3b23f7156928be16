// Rotary position embedding (Su et al. 2021), half-split as in NeoX and LLaMA: pair j of a head is
// its elements (j, j + head_dim/2), rotated by the angle position * base^(-2j/head_dim).
// model/method.md#block.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// table[p, 0:d/2] = cos and table[p, d/2:d] = sin of the angles of position p, d = head_dim. Angles
// are computed in double.
struct RopeTable {
  static constexpr char kName[] = "rope_table";
  double base;
  Tensor table;  // out [positions, head_dim]
  auto Inputs() { return std::array<Tensor*, 0>{}; }
  auto Outputs() { return std::array{&table}; }
  void Check() const;
};
void ComputeOnCpu(const RopeTable& op);
void ComputeOnCuda(const RopeTable& op, Stream& stream);

// Rotates the first `heads` heads of every row of x in place. `inverse` rotates by the negative
// angles, which is the backward. Row t has position t % sequence. On GPUs x may be bfloat16.
struct Rope {
  static constexpr char kName[] = "rope";
  Tensor x;      // in/out [tokens, columns], columns >= heads * head_dim
  Tensor table;  // [>= sequence, head_dim]
  int64_t heads;
  int64_t sequence;
  bool inverse;
  auto Inputs() { return std::array{&x, &table}; }
  auto Outputs() { return std::array{&x}; }
  void Check() const;
};
void ComputeOnCpu(const Rope& op);
void ComputeOnCuda(const Rope& op, Stream& stream);

}  // namespace unipool
