// Moves rows between token order and expert order. Every op is a gather: each output row is written
// by one thread from rows that are read in a fixed order, so results do not depend on timing. On
// GPUs rows, base, y and their gradients may be bfloat16; gates and dgates are float32. An index
// may be kNoRow (row_index.h).
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// y[i] = x[index[i]]; x and y have the same dtype, which may be any. If index[i] is kNoRow, y[i] is
// not written.
struct GatherRows {
  static constexpr char kName[] = "gather_rows";
  Tensor x;      // [source_rows, hidden]
  Tensor index;  // int32 [rows], each in [0, source_rows) or kNoRow
  Tensor y;      // out [rows, hidden]
  auto Inputs() { return std::array{&x, &index}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const GatherRows& op);
void ComputeOnCuda(const GatherRows& op, Stream& stream);

// y[t] = base[t] + sum_j gates[t,j] * rows[positions[t,j]], added in the order of j. Absent gates
// mean 1; an absent base means 0. A copy whose position is kNoRow adds nothing.
struct CombineRows {
  static constexpr char kName[] = "combine_rows";
  Tensor rows;       // [rows, hidden], rows <= tokens * k
  Tensor positions;  // int32 [tokens, k]: row of the j-th copy of token t, or kNoRow
  Tensor gates;      // [tokens, k], or absent
  Tensor base;       // [tokens, hidden], y itself, or absent
  Tensor y;          // out [tokens, hidden]
  auto Inputs() { return std::array{&rows, &positions, &gates, &base}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const CombineRows& op);
void ComputeOnCuda(const CombineRows& op, Stream& stream);

// For all t and j:
//   drows[positions[t,j]] = gates[t,j] * dy[t]
//   dgates[t,j] = dy[t] . rows[positions[t,j]], or 0 if positions[t,j] is kNoRow
// No two positions are the same row. A row of drows at no position is not written.
struct CombineRowsBackward {
  static constexpr char kName[] = "combine_rows_backward";
  Tensor dy;         // [tokens, hidden]
  Tensor rows;       // [rows, hidden], input of the forward
  Tensor positions;  // int32 [tokens, k]
  Tensor gates;      // [tokens, k]
  Tensor drows;      // out [rows, hidden]; may be the same memory as rows
  Tensor dgates;     // out [tokens, k]
  auto Inputs() { return std::array{&dy, &rows, &positions, &gates}; }
  auto Outputs() { return std::array{&drows, &dgates}; }
  void Check() const;
};
void ComputeOnCpu(const CombineRowsBackward& op);
void ComputeOnCuda(const CombineRowsBackward& op, Stream& stream);

}  // namespace unipool
