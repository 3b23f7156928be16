// Saves the state of a run while training continues. Every rank copies its part of the state and
// writes the copy on a side thread into step_XXXXXXXX.tmp. When all ranks have written, the first
// rank writes the manifest, renames the folder and updates `latest`, so a checkpoint is either
// complete or not visible. Ranks synchronize only between steps. A failed save leaves the last good
// checkpoint unchanged and is repeated some steps later.
//   idle -> writing (all ranks) -> publishing (the first rank) -> idle
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
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/pieces.h"
#include "launch/config/messages.h"
#include "launch/world/world.h"
#include "runtime/buffer.h"
#include "runtime/stream.h"

namespace unipool {

// Totals over all saves so far.
struct SaveTotals {
  int64_t saves = 0;
  int64_t failures = 0;
  int64_t bytes = 0;         // size of the files of all ranks
  double write_seconds = 0;  // from the start of each save to its publication
  // Part of write_seconds in which this rank read its files back.
  double verify_seconds = 0;
  // Time in which saving paused the training of this rank, and the time between saves, of which it
  // is a share. The first interval begins at the creation of the saver.
  double stall_seconds = 0;
  double between_seconds = 0;
  double final_seconds = 0;  // time in SaveNow
};

// All calls are collective.
class CheckpointSaver {
 public:
  // Removes unfinished checkpoints in the folder `checkpoints`. `settings` and `world` are borrowed
  // and outlive the saver.
  static absl::StatusOr<std::unique_ptr<CheckpointSaver>> Create(std::string checkpoints,
                                                                 const config::Checkpoint& settings,
                                                                 const World& world);
  // Waits for the side thread of this rank. The next run removes a checkpoint that is not published
  // by then.
  ~CheckpointSaver();

  // Call after each step. Advances the save in progress and starts a new one if it is due; waits
  // only if a save is due while another is in progress. Logs failures as warnings.
  void AfterStep(const TrainingState& state);
  // Finishes the save in progress, saves `state`, waits for the disk and returns the folder.
  absl::StatusOr<std::string> SaveNow(const TrainingState& state);
  // Waits until no save is in progress.
  void Settle();
  // Call after a rewind, so that repeated steps are saved again.
  void Forget() { step_ = -1; }

  const SaveTotals& totals() const { return totals_; }
  // Rate of the newest published save; 0 before the first.
  double gigabytes_per_second() const { return gigabytes_per_second_; }

 private:
  enum class Phase { kIdle, kWriting, kPublishing };

  CheckpointSaver(std::string checkpoints, const config::Checkpoint& settings, const World& world);
  bool IsDue(int64_t step) const;
  void Begin(const TrainingState& state, bool snapshot);
  absl::Status Snapshot(Stream& stream);
  void Advance();
  void StartPublishing();
  void Finish();
  void ScheduleRetry();
  // Logs a warning if there are more failures than `failures_before`.
  void WarnOfFailure(int64_t failures_before, int64_t next_try) const;
  // These two run on the side thread.
  void Write();
  void Publish();

  const std::string checkpoints_;
  const config::Checkpoint& settings_;
  const World& world_;
  const std::unique_ptr<Stream> stream_;
  Phase phase_ = Phase::kIdle;
  int64_t step_ = -1;       // of the save in progress, else of the last one
  int64_t retry_at_ = -1;   // step of the next try after a failure, else -1
  int64_t retry_wait_ = 1;  // steps
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point counted_;  // end of the time in totals_.between_seconds
  absl::Status outcome_;                           // of the last save, the same on all ranks
  SaveTotals totals_;
  double gigabytes_per_second_ = 0;

  // Used by the side thread only while `busy_` is true.
  Buffer copy_;
  std::vector<Piece> pieces_;
  const std::unique_ptr<config::Manifest> part_;      // what this rank adds to the manifest
  const std::unique_ptr<config::Manifest> manifest_;  // of all ranks; on the first rank only
  double verify_seconds_ = 0;
  absl::Status written_;
  absl::Status published_;
  std::atomic<bool> busy_ = false;
  const std::unique_ptr<Stream> side_;  // last member: destroyed before what it uses
};

// Saves once and returns the folder; keeps every older checkpoint. Collective.
absl::StatusOr<std::string> SaveCheckpoint(const std::string& checkpoints,
                                           const TrainingState& state, const World& world);

}  // namespace unipool
