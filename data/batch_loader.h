// Batches for one rank: a pure function of (settings, step), read ahead by one thread.
//
// A step's global batch is `global_batch` consecutive samples of the source; a loader told to skip
// n steps gives those of step + n, as after a rewind past data that hurt. The batch is cut into
// micro-steps of at most ranks * micro_batch samples, each as even as can be, and each micro-step
// into consecutive slices for ranks 0, 1, ..., of floor or ceil size. Where everything divides,
// that is model/method.md#batch-order: micro-batch a of rank r is the (a * ranks + r)-th slice of
// micro_batch samples. A rank's slice may be empty: every number of ranks sees the same global
// batch.
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
  int64_t vocab;  // a token id outside [0, vocab) ends the batches: see BatchLoader::status
};

// Samples [first, first + count) of rank `rank` in micro-step `micro_step`, within the global
// batch.
struct Slice {
  int64_t first;
  int64_t count;
};
int NumMicroSteps(const BatchLoaderOptions& options);
Slice RankSlice(const BatchLoaderOptions& options, int micro_step);

// Owns the buffers of a few micro-batches and the thread that fills them. One thread calls it; a
// warm call of Next allocates nothing.
class BatchLoader {
 public:
  // `source` is borrowed and outlives the loader.
  static absl::StatusOr<std::unique_ptr<BatchLoader>> Create(const SampleSource& source,
                                                             const BatchLoaderOptions& options);
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;
  ~BatchLoader();

  int num_micro_steps() const { return num_micro_steps_; }
  // The next micro-batch; after the last of a step, the first of the next step. Once status() is
  // not OK it gives batches without sequences and does not advance.
  const Batch& Next();
  // The step that the next call of Next starts or is inside of.
  int64_t cursor() const { return position_ / num_micro_steps_; }
  // The next call of Next gives micro-step 0 of `step` (steps count from 0). Clears the status.
  void Seek(int64_t step);
  // From the cursor's step on, batches are those of the data's step + `steps`, all in all.
  void SkipTo(int64_t steps);
  int64_t skipped_steps() const { return skipped_steps_; }
  // OK until Next meets a micro-batch with a token id outside the vocabulary: then the file, the
  // token's position, the id and the vocabulary.
  absl::Status status() const { return status_; }

 private:
  struct Slot {
    std::vector<int32_t> tokens;
    std::vector<int32_t> targets;
    Batch batch;
    // Of the first id outside the vocabulary.
    int64_t bad_sample = -1;
    int64_t bad_offset = 0;
    int32_t bad_id = 0;
  };

  // Micro-step `position` since step 0, and how far the data are ahead of the steps.
  struct FillPlace {
    int64_t position;
    int64_t skipped_steps;
  };

  BatchLoader(const SampleSource& source, const BatchLoaderOptions& options);
  void ReadAhead();
  void Fill(FillPlace place, Slot* slot);
  absl::Status BadToken(const Slot& slot) const;
  Slot& SlotOf(int64_t filled) { return slots_[filled % kSlots]; }

  // One in the caller's hands, one ready, one being filled.
  static constexpr int kSlots = 3;

  const SampleSource& source_;
  const BatchLoaderOptions options_;
  const int num_micro_steps_;
  std::array<Slot, kSlots> slots_;
  std::vector<int32_t> sample_;  // the reader's: sequence + 1 ids

  // The caller's.
  int64_t position_ = 0;  // micro-steps since step 0, of the next call of Next
  int64_t skipped_steps_ = 0;
  absl::Status status_;
  Batch no_batch_ = {};

  std::mutex mutex_;
  std::condition_variable changed_;
  // Below: guarded by mutex_. Slots are numbered in the order in which they are filled.
  int64_t num_filled_ = 0;
  int64_t num_taken_ = 0;   // by Next; the last of them is still in the caller's hands
  FillPlace fill_place_{};  // of the slot to fill next
  int64_t seeks_ = 0;
  bool stopping_ = false;

  std::thread reader_;
};

}  // namespace unipool
