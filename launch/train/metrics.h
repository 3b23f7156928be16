// What a run tells: one record a step, to metrics.jsonl for machines and to the terminal for
// people.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launch/analysis/validation.h"

namespace unipool {

struct StepRecord {
  int64_t step = 0;    // counted from 1; 0 for the validation before training, and nothing else
  int64_t tokens = 0;  // trained on so far, all ranks
  double lm_loss = 0;  // cross-entropy, nats a token
  double pool_loss = 0;
  double layer_aux_loss = 0;
  double grad_norm = 0;  // before clipping
  double lr = 0;
  double step_seconds = 0;
  double tokens_per_second = 0;
  double exposed_comm_seconds = 0;  // of the slowest rank: exchanges that nothing hid
  double layer_imbalance = 0;       // facts in comm/load_statistics.h
  double pool_imbalance = 0;
  double unrouted_share = 0;            // of (token, layer) pairs: no expert had a positive score
  int64_t skipped_updates = 0;          // so far
  int64_t rewinds = 0;                  // so far
  double checkpoint_stall_seconds = 0;  // that saves held training up, since the last record
  double checkpoint_gigabytes_per_second = 0;  // of the newest save, all ranks; 0 before one
  std::optional<Validation> validation;
  bool has_training = true;  // false for a validation that an earlier run of the job cut short
  std::optional<Validation> test;  // after the last step, where eval.test asks for it
};

// RUN/metrics.jsonl, one line a record, each written out at once.
class MetricsFile {
 public:
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Create(const std::string& path);
  // Keeps what is there up to the record of `step`, and goes on behind it. A later record, or half
  // of one, is of a run that went on after its last checkpoint; the steps come again. A record of
  // `step` that holds a validation only joins the one that is there. Records before `step` that are
  // missing, as after a crash of the host, are a warning.
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Continue(const std::string& path,
                                                               int64_t step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  // After an error the file ends with the last record that was written whole.
  absl::Status Write(const StepRecord& record);

 private:
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Open(const std::string& path,
                                                           const char* mode);
  MetricsFile(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}

  const std::string path_;
  std::FILE* const file_;
  int64_t written_ = 0;  // bytes, of whole records
  std::string held_;     // the record of `step` where it may still be joined
  int64_t held_step_ = -1;
};

std::string ToJson(const StepRecord& record);

// On a terminal a live line that is written over; otherwise a plain line now and then.
class ProgressLine {
 public:
  // `live`: standard output is a terminal.
  ProgressLine(int64_t total_steps, bool live);
  ~ProgressLine();

  void Show(const StepRecord& record);
  // A line of its own, above the live one.
  void Say(const std::string& text);

 private:
  void ClearLive();
  bool Due(const StepRecord& record) const;

  const int64_t total_steps_;
  const bool live_;
  bool shown_ = false;
  absl::Time last_;
  int64_t steps_seen_ = 0;
  double seconds_per_step_ = 0;  // smoothed
};

// True where people watch: the launcher says so in UNIPOOL_TERMINAL, since ranks under mpirun
// cannot tell; otherwise standard output is asked.
bool OutputIsTerminal();

}  // namespace unipool
