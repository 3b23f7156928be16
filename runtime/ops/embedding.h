// Token embedding: y[t] = table[tokens[t]]. On GPUs table, y and dy may be bfloat16; dtable is
// float32.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

struct EmbeddingForward {
  static constexpr char kName[] = "embedding_forward";
  Tensor tokens;  // int32 [tokens], each in [0, vocab)
  Tensor table;   // [vocab, hidden]
  Tensor y;       // out [tokens, hidden]
  auto Inputs() { return std::array{&tokens, &table}; }
  auto Outputs() { return std::array{&y}; }
  void Check() const;
};
void ComputeOnCpu(const EmbeddingForward& op);
void ComputeOnCuda(const EmbeddingForward& op, Stream& stream);

// dtable[tokens[t]] += dy[t], in the order of the tokens, so the bits do not depend on the number
// of threads.
struct EmbeddingBackward {
  static constexpr char kName[] = "embedding_backward";
  Tensor tokens;  // int32 [tokens], each in [0, vocab)
  Tensor dy;      // [tokens, hidden]
  Tensor dtable;  // in/out [vocab, hidden], added to
  auto Inputs() { return std::array{&tokens, &dy}; }
  auto Outputs() { return std::array{&dtable}; }
  void Check() const;
};
void ComputeOnCpu(const EmbeddingBackward& op);
void ComputeOnCuda(const EmbeddingBackward& op, Stream& stream);

}  // namespace unipool
