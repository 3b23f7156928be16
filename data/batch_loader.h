// Batches for one rank: a pure function of (seed, step), read ahead by one thread.
//
// A step's global batch is `global_batch` consecutive samples of the SampleOrder. It is cut into
// micro-steps of at most ranks * micro_batch samples, each as even as can be, and each micro-step
// into consecutive slices for ranks 0, 1, ..., of floor or ceil size. Where everything divides, that
// is facts M.1: micro-batch a of rank r is the (a * ranks + r)-th slice of micro_batch samples. A
// rank's slice may be empty: every number of ranks sees the same global batch.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "data/indexed_dataset.h"
#include "data/sample_order.h"
#include "runtime/tensor.h"

namespace unipool {

// One micro-batch. Valid until the next call of Next on the same loader.
struct Batch {
  int64_t step;
  int micro_step;
  int64_t sequences;         // of this rank in this micro-step; may be 0
  int64_t global_sequences;  // of all ranks and micro-steps of the step
  Tensor tokens;             // int32 [sequences * sequence]
  Tensor targets;            // int32 [sequences * sequence]: the tokens that follow
};

struct BatchLoaderOptions {
  int64_t sequence;      // tokens of a sample that are inputs
  int64_t global_batch;  // samples a step
  int64_t micro_batch;   // the most samples of one rank in one micro-step
  int rank;
  int ranks;
  int64_t vocab;  // a token id at or beyond it ends the process with its place in the file
};

// Samples [first, first + count) of rank `rank` in micro-step `micro_step`, within the global batch.
struct Slice {
  int64_t first;
  int64_t count;
};
int NumMicroSteps(const BatchLoaderOptions& options);
Slice RankSlice(const BatchLoaderOptions& options, int micro_step);

class BatchLoader {
 public:
  // `dataset` is borrowed and outlives the loader.
  static absl::StatusOr<std::unique_ptr<BatchLoader>> Create(const IndexedDataset& dataset,
                                                             const SampleOrder& order,
                                                             const BatchLoaderOptions& options);
  virtual ~BatchLoader() = default;

  virtual int num_micro_steps() const = 0;
  // The next micro-batch; after the last of a step, the first of the next step.
  virtual const Batch& Next() = 0;
  // The step that the next call of Next starts or is inside of.
  virtual int64_t cursor() const = 0;
  // The next call of Next gives micro-step 0 of `step` (steps count from 0).
  virtual void Seek(int64_t step) = 0;
};

}  // namespace unipool
