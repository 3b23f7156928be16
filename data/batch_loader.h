// Batches of token ids for one rank, read ahead by one thread. A batch is a pure function of the
// options and the step.
//
// The global batch of a step is `global_batch` consecutive samples of the source. SkipTo(n) shifts
// the data: step s then uses the samples of step s + n, for example after a rewind past data that
// made the loss diverge. The global batch is split into the fewest micro-steps of at most
// ranks * micro_batch samples, and each micro-step into consecutive slices for ranks 0, 1, ...; the
// sizes within a split differ by at most one, larger ones first. If everything divides, this is
// model/method.md#batch-order: micro-batch a of rank r is slice a * ranks + r of micro_batch
// samples. A rank's slice may be empty, so any number of ranks reads the same global batch.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/sample_source.h"
#include "runtime/tensor.h"

namespace unipool {

// One micro-batch of one rank. Its tensors are borrowed from the loader and valid until the next
// call of Next.
struct Batch {
  int64_t step;
  int micro_step;
  int64_t sequences;         // of this rank in this micro-step; may be 0
  int64_t global_sequences;  // of all ranks and micro-steps of the step
  Tensor tokens;             // int32 [sequences * sequence]
  Tensor targets;            // int32 [sequences * sequence]: the tokens that follow
};

struct BatchLoaderOptions {
  int64_t sequence;      // input tokens of a sample
  int64_t global_batch;  // samples per step, over all ranks
  int64_t micro_batch;   // maximum samples of one rank in one micro-step
  int rank;
  int ranks;
  int64_t vocab;  // valid ids are [0, vocab); for others see BatchLoader::status
};

// Samples [first, first + count) of rank `rank` in micro-step `micro_step`, within the global
// batch.
struct Slice {
  int64_t first;
  int64_t count;
};
int NumMicroSteps(const BatchLoaderOptions& options);
Slice RankSlice(const BatchLoaderOptions& options, int micro_step);

// Owns the buffers of three micro-batches and the thread that fills them. Only one thread may call
// it. Next allocates nothing after the first calls.
class BatchLoader {
 public:
  // `source` is borrowed and must outlive the loader. INVALID_ARGUMENT names the option that is out
  // of range and its value.
  static absl::StatusOr<std::unique_ptr<BatchLoader>> Create(const SampleSource& source,
                                                             const BatchLoaderOptions& options);
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;
  ~BatchLoader();

  int num_micro_steps() const { return num_micro_steps_; }
  // Returns the next micro-batch; waits until it is read. After the last micro-step of a step comes
  // the first of the next step. While status() is not OK it returns batches of 0 sequences and does
  // not advance.
  const Batch& Next();
  // The step of the micro-batch that the next call of Next returns.
  int64_t cursor() const { return position_ / num_micro_steps_; }
  // Makes the next call of Next return micro-step 0 of `step` (counted from 0). Clears the status.
  void Seek(int64_t step);
  // From the cursor on, step s uses the samples of step s + `steps`. The shift replaces the former
  // one; it does not add to it.
  void SkipTo(int64_t steps);
  int64_t skipped_steps() const { return skipped_steps_; }
  // INVALID_ARGUMENT once Next reached a micro-batch with a token id outside the vocabulary; the
  // message names the file, the token's position, the id and the vocabulary.
  absl::Status status() const { return status_; }

 private:
  struct Slot {
    std::vector<int32_t> tokens;
    std::vector<int32_t> targets;
    Batch batch;
    // The first id outside the vocabulary: global sample (-1: none), and offset in it.
    int64_t bad_sample = -1;
    int64_t bad_offset = 0;
  };

  // A micro-step, counted from step 0, and the shift of SkipTo.
  struct ReadPosition {
    int64_t position;
    int64_t skipped_steps;
  };

  BatchLoader(const SampleSource& source, const BatchLoaderOptions& options);
  void ReadAhead();
  void Fill(ReadPosition position, Slot* slot);
  absl::Status BadToken(const Slot& slot) const;
  Slot& SlotOf(int64_t filled) { return slots_[filled % kSlots]; }

  // One returned to the caller, one ready, one being filled.
  static constexpr int kSlots = 3;

  const SampleSource& source_;
  const BatchLoaderOptions options_;
  const int num_micro_steps_;
  std::array<Slot, kSlots> slots_;
  std::vector<int32_t> sample_;  // [sequence + 1], used by the reader thread

  // Used only by the calling thread.
  int64_t position_ = 0;  // micro-step of the next call of Next, counted from step 0
  int64_t skipped_steps_ = 0;
  absl::Status status_;
  Batch no_batch_ = {};

  std::mutex mutex_;
  std::condition_variable changed_;
  // Below: guarded by mutex_. Slots are numbered in the order in which they are filled.
  int64_t num_filled_ = 0;
  int64_t num_taken_ = 0;     // returned by Next; the caller still reads the last one
  ReadPosition next_read_{};  // of the slot to fill next
  int64_t seeks_ = 0;
  bool stopping_ = false;

  std::thread reader_;
};

}  // namespace unipool
