#include "launch/checkpoint/saver.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/manifest.h"
#include "runtime/clock.h"
#include "runtime/copy.h"
#include "runtime/device.h"
#include "runtime/files.h"
#include "runtime/status.h"
#include "runtime/tensor_store.h"

namespace unipool {
namespace {

using config::Manifest;

constexpr auto kPollInterval = std::chrono::milliseconds(5);

// Adds the time of its scope to a total.
class Stopwatch {
 public:
  explicit Stopwatch(double* seconds)
      : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { *seconds_ += SecondsSince(start_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double* const seconds_;
  const std::chrono::steady_clock::time_point start_;
};

// Serializes the manifest of a part, or the error that prevented it, to send to other ranks.
std::string Envelope(const absl::Status& status, const Manifest& part) {
  if (status.ok()) return absl::StrCat("+", part.SerializeAsString());
  return absl::StrCat("-", std::string(1, static_cast<char>(status.code())), status.message());
}

absl::Status OpenEnvelope(const std::string& envelope, Manifest* manifest) {
  if (envelope[0] == '+') {
    CHECK(manifest->MergeFromString(envelope.substr(1)));
    return absl::OkStatus();
  }
  return absl::Status(static_cast<absl::StatusCode>(envelope[1]), envelope.substr(2));
}

// Checks that the files read as they were written, since older checkpoints are then removed.
absl::Status ReadBack(const std::string& folder, const Manifest& part) {
  for (const Manifest::File& file : part.files()) {
    const std::string path = absl::StrCat(folder, "/", file.name());
    ASSIGN_OR_RETURN(const FileDigest digest, DigestFile(path));
    if (digest.xxh3_128 == file.xxh3_128()) continue;
    return absl::DataLossError(
        absl::StrCat(path, ": reads other bytes than were written: ", "expected xxh3_128 ",
                     file.xxh3_128(), ", found ", digest.xxh3_128, "; check the disk"));
  }
  return absl::OkStatus();
}

// Pinned memory makes copies from a GPU several times faster. It is used if it takes at most an
// eighth of the host's memory and the host provides it.
absl::StatusOr<Buffer> AllocateCopy(const World& world, int64_t bytes) {
  if (bytes <= HostMemoryBytes() / 8 / world.ranks_on_host()) {
    absl::StatusOr<Buffer> pinned = Buffer::AllocatePinned(world.device(), bytes);
    if (pinned.ok()) return pinned;
  }
  return Buffer::Allocate(Device{}, bytes);
}

// Copies with several threads, to use the bandwidth of the memory.
void CopyOnHost(const Tensor& from, const Tensor& to) {
  constexpr int64_t kChunk = int64_t{1} << 20;
  const char* const source = static_cast<const char*>(from.data);
  char* const target = static_cast<char*>(to.data);
  const int64_t size = from.bytes();
#pragma omp parallel for schedule(static) if (size > kChunk)
  for (int64_t at = 0; at < size; at += kChunk) {
    std::memcpy(target + at, source + at, static_cast<size_t>(std::min(kChunk, size - at)));
  }
}

}  // namespace

CheckpointSaver::CheckpointSaver(std::string checkpoints, const config::Checkpoint& settings,
                                 const World& world)
    : checkpoints_(std::move(checkpoints)),
      settings_(settings),
      world_(world),
      stream_(Stream::Create(Device{})),
      counted_(std::chrono::steady_clock::now()),
      part_(std::make_unique<Manifest>()),
      manifest_(std::make_unique<Manifest>()),
      side_(Stream::Create(Device{}, Stream::Kind::kSide)) {}

CheckpointSaver::~CheckpointSaver() = default;

absl::StatusOr<std::unique_ptr<CheckpointSaver>> CheckpointSaver::Create(
    std::string checkpoints, const config::Checkpoint& settings, const World& world) {
  auto self = std::unique_ptr<CheckpointSaver>(
      new CheckpointSaver(std::move(checkpoints), settings, world));
  RETURN_IF_ERROR(
      world.Agree(world.is_first() ? SweepUnfinished(self->checkpoints_) : absl::OkStatus()));
  return self;
}

bool CheckpointSaver::IsDue(int64_t step) const {
  if (retry_at_ >= 0) return step >= retry_at_;
  return settings_.every_steps() > 0 && step % settings_.every_steps() == 0;
}

void CheckpointSaver::AfterStep(const TrainingState& state) {
  const bool due = state.step > 0 && state.step != step_ && IsDue(state.step);
  if (phase_ == Phase::kIdle && !due) return;
  const Stopwatch stopwatch(&totals_.stall_seconds);
  const int64_t failures = totals_.failures;
  Advance();
  if (due) Settle();
  // A failure of the previous save.
  WarnOfFailure(failures, due ? state.step : std::max(retry_at_, state.step + 1));
  if (!due) return;
  totals_.between_seconds +=
      SecondsSince(std::exchange(counted_, std::chrono::steady_clock::now()));
  const int64_t failures_before = totals_.failures;
  Begin(state, settings_.asynchronous());
  if (!settings_.asynchronous()) Settle();
  WarnOfFailure(failures_before, std::max(retry_at_, state.step + 1));
}

void CheckpointSaver::WarnOfFailure(int64_t failures_before, int64_t next_try) const {
  LOG_IF(WARNING, totals_.failures > failures_before && world_.is_first())
      << "the checkpoint of step " << step_ << " FAILED: " << outcome_.message()
      << "; training continues, the next try is after step " << next_try;
}

absl::StatusOr<std::string> CheckpointSaver::SaveNow(const TrainingState& state) {
  const Stopwatch stopwatch(&totals_.final_seconds);
  Settle();
  if (state.step != step_ || !outcome_.ok()) {
    Begin(state, /*snapshot=*/false);
    Settle();
  }
  if (!outcome_.ok()) return outcome_;
  return CheckpointPath(checkpoints_, state.step);
}

// Polls: ranks that wait for a slow disk inside a collective would be reported as hung.
void CheckpointSaver::Settle() {
  while (phase_ != Phase::kIdle) {
    Advance();
    if (phase_ != Phase::kIdle) std::this_thread::sleep_for(kPollInterval);
  }
}

// If `snapshot` is false, the caller waits for the save before it changes the state.
void CheckpointSaver::Begin(const TrainingState& state, bool snapshot) {
  step_ = state.step;
  retry_at_ = -1;  // this is the next try
  started_ = std::chrono::steady_clock::now();
  pieces_ = PiecesOf(state.parameters, state.optimizer, world_);
  *manifest_ = Describe(state, world_);
  part_->Clear();
  DescribeRank(state, part_.get());
  // Files are written from host memory.
  if (snapshot || world_.device() != Device{}) {
    outcome_ = world_.Agree(Snapshot(state.stream));
    if (!outcome_.ok()) {
      return ScheduleRetry();
    }
  }
  phase_ = Phase::kWriting;
  busy_ = true;
  side_->Run([this] { Write(); });
}

// Copies every piece after the work that is queued on `stream`, and lets the piece refer to its
// copy.
absl::Status CheckpointSaver::Snapshot(Stream& stream) {
  int64_t bytes = 0;
  for (const Piece& piece : pieces_) bytes += piece.value.bytes();
  if (copy_.bytes() != bytes) {
    copy_ = Buffer();
    ASSIGN_OR_RETURN(copy_, AllocateCopy(world_, bytes));
  }
  char* to = static_cast<char*>(copy_.data());
  for (Piece& piece : pieces_) {
    Tensor copy = piece.value;
    copy.data = to;
    copy.device = Device{};
    if (piece.value.device == Device{}) {
      CopyOnHost(piece.value, copy);
    } else {
      CopyTensor(piece.value, copy, stream);
    }
    piece.value = copy;
    to += copy.bytes();
  }
  stream.Synchronize();
  return absl::OkStatus();
}

void CheckpointSaver::Write() {
  const std::string folder = UnfinishedPath(checkpoints_, step_);
  written_ = MakeFolders(folder);
  if (written_.ok()) {
    absl::StatusOr<Manifest> part = WritePieces(folder, world_.rank(), pieces_);
    written_ = part.status();
    verify_seconds_ = 0;
    const Stopwatch stopwatch(&verify_seconds_);
    if (part.ok()) written_ = ReadBack(folder, *part);
    if (part.ok()) part_->MergeFrom(*part);
  }
  busy_ = false;
}

// Enters the next phase if all ranks have finished the present one.
void CheckpointSaver::Advance() {
  if (phase_ == Phase::kIdle) return;
  int32_t busy = busy_ ? 1 : 0;
  world_.groups().world().AllReduce(Tensor::Of(&busy, {1}), ReduceOp::kMax, *stream_);
  if (busy != 0) return;
  if (phase_ == Phase::kWriting) {
    StartPublishing();
  } else {
    Finish();
  }
}

// All ranks have written or failed. The first rank publishes the checkpoint or removes it.
void CheckpointSaver::StartPublishing() {
  const std::vector<std::string> envelopes = world_.Gather(Envelope(written_, *part_));
  outcome_ = absl::OkStatus();
  for (int rank = 0; rank < world_.size(); ++rank) {
    const absl::Status status = OpenEnvelope(envelopes[rank], manifest_.get());
    if (status.ok()) continue;
    outcome_.Update(
        absl::Status(status.code(), absl::StrCat("rank ", rank, ": ", status.message())));
  }
  phase_ = Phase::kPublishing;
  if (!world_.is_first()) return;
  published_ = outcome_;
  busy_ = true;
  side_->Run([this] { Publish(); });
}

void CheckpointSaver::Publish() {
  const std::string temporary = UnfinishedPath(checkpoints_, step_);
  if (published_.ok()) published_ = WriteManifest(temporary, *manifest_);
  if (published_.ok()) published_ = unipool::Publish(checkpoints_, step_);
  if (published_.ok()) {
    // Earlier saves may have failed without removing their files.
    absl::Status removed = SweepUnfinished(checkpoints_);
    removed.Update(RemoveOld(checkpoints_, step_, settings_.keep_last(), settings_.keep_every()));
    LOG_IF(WARNING, !removed.ok()) << removed.message();
  } else {
    RemoveTree(temporary).IgnoreError();
  }
  busy_ = false;
}

void CheckpointSaver::Finish() {
  phase_ = Phase::kIdle;
  Manifest none;
  outcome_ = OpenEnvelope(world_.Gather(Envelope(published_, none))[0], &none);
  pieces_.clear();
  if (!outcome_.ok()) return ScheduleRetry();
  int64_t bytes = 0;
  for (const Manifest::File& file : manifest_->files()) bytes += file.bytes();
  const double seconds = SecondsSince(started_);
  totals_.saves += 1;
  totals_.bytes += bytes;
  totals_.write_seconds += seconds;
  totals_.verify_seconds += verify_seconds_;
  gigabytes_per_second_ = static_cast<double>(bytes) / seconds / 1e9;
  retry_wait_ = 1;
}

// Doubles the number of steps before the next try, up to checkpoint.every_steps.
void CheckpointSaver::ScheduleRetry() {
  totals_.failures += 1;
  retry_at_ = step_ + retry_wait_;
  retry_wait_ = std::min(2 * retry_wait_, std::max<int64_t>(settings_.every_steps(), 1));
}

absl::StatusOr<std::string> SaveCheckpoint(const std::string& checkpoints,
                                           const TrainingState& state, const World& world) {
  config::Checkpoint settings;
  settings.set_keep_last(0);
  ASSIGN_OR_RETURN(const auto saver, CheckpointSaver::Create(checkpoints, settings, world));
  return saver->SaveNow(state);
}

}  // namespace unipool
