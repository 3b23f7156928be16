// Saves a run's whole state so that it is whole or not there, while training goes on. Every rank
// copies its part and writes the copy on a side thread, into a folder beside the final name; when
// all have, the first rank writes the manifest, renames the folder and moves `latest`. The ranks
// meet only between steps, to learn how far all are. A save that fails leaves the last good
// checkpoint as it is, and is tried again some steps later.
//   idle -> writing (all ranks) -> concluding (the first rank publishes or cleans up) -> idle
// Reading: reader.h. Layout: README.md.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/checkpoint.pb.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/pieces.h"
#include "launch/world/world.h"
#include "runtime/buffer.h"
#include "runtime/stream.h"

namespace unipool {

// What saves came to so far.
struct SaveTotals {
  int64_t saves = 0;
  int64_t failures = 0;
  int64_t bytes = 0;         // of all ranks' files, over all saves
  double write_seconds = 0;  // from the start of a save until it is published
  // Of these, in which this rank read its files back.
  double verify_seconds = 0;
  // That this rank's training stood still between steps, and the time from each save to the next
  // that this is a share of; the first one counts from the start.
  double stall_seconds = 0;
  double between_seconds = 0;
  double final_seconds = 0;  // that SaveNow took
};

// All calls are collective.
class CheckpointSaver {
 public:
  // Takes away what interrupted writers left in `checkpoints`. `settings` are borrowed, like the
  // world.
  static absl::StatusOr<std::unique_ptr<CheckpointSaver>> Create(std::string checkpoints,
                                                                 const config::Checkpoint& settings,
                                                                 const World& world);
  // Waits for this rank's thread; what is not published by then is swept by the next run.
  ~CheckpointSaver() = default;

  // After each step: carries a save under way further, and starts one where it is due. Waits only
  // while the save before is not finished. Failures are warnings.
  void AfterStep(const TrainingState& state);
  // Saves now, after what is under way, and waits for the disk. Returns the folder.
  absl::StatusOr<std::string> SaveNow(const TrainingState& state);
  // Waits until nothing is under way.
  void Settle();
  // After going back to a checkpoint: the steps that come again are to be saved again.
  void Forget() { step_ = -1; }

  const SaveTotals& totals() const { return totals_; }
  // Of the newest published save; 0 before one.
  double gigabytes_per_second() const { return gigabytes_per_second_; }

 private:
  enum class Phase { kIdle, kWriting, kConcluding };

  CheckpointSaver(std::string checkpoints, const config::Checkpoint& settings, const World& world);
  bool IsDue(int64_t step) const;
  void Begin(const TrainingState& state, bool snapshot);
  absl::Status Snapshot(Stream& stream);
  void Advance();
  void Conclude();
  void Finish();
  void NoteFailure();
  // Where there are more failures than `failures_before`.
  void TellOfFailure(int64_t failures_before, int64_t next_try) const;
  // On the side thread.
  void Write();
  void Publish();

  const std::string checkpoints_;
  const config::Checkpoint& settings_;
  const World& world_;
  const std::unique_ptr<Stream> stream_;
  Phase phase_ = Phase::kIdle;
  int64_t step_ = -1;       // of the save under way, or of the last one
  int64_t retry_at_ = -1;   // after a failure
  int64_t retry_wait_ = 1;  // steps
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point counted_;  // up to where totals_.between_seconds goes
  absl::Status outcome_;                           // of the last save, the same on all ranks
  SaveTotals totals_;
  double gigabytes_per_second_ = 0;

  // The side thread's while `busy_`.
  Buffer copy_;
  std::vector<Piece> pieces_;
  config::Manifest part_;      // what this rank adds to the manifest
  config::Manifest manifest_;  // the first rank's: of all
  double verify_seconds_ = 0;
  absl::Status written_;
  absl::Status published_;
  std::atomic<bool> busy_ = false;
  const std::unique_ptr<Stream> side_;  // last: it ends before what it uses
};

// Saves once, and keeps every older checkpoint. Collective.
absl::StatusOr<std::string> SaveCheckpoint(const std::string& checkpoints,
                                           const TrainingState& state, const World& world);

}  // namespace unipool
