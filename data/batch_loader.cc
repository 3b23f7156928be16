#include "data/batch_loader.h"

#include <glog/logging.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace unipool {
namespace {

// Part number `part` of `count` items split into `parts` consecutive parts; larger parts come
// first.
Slice EvenPart(int64_t count, int64_t parts, int64_t part) {
  const int64_t base = count / parts, extra = count % parts;
  return {.first = part * base + std::min(part, extra), .count = base + (part < extra ? 1 : 0)};
}

absl::Status CheckOptions(const BatchLoaderOptions& options) {
  const auto positive = [](absl::string_view name, int64_t value) {
    return value > 0 ? absl::OkStatus()
                     : absl::InvalidArgumentError(
                           absl::StrCat(name, " is ", value, "; it must be at least 1"));
  };
  absl::Status status = positive("sequence", options.sequence);
  status.Update(positive("global_batch", options.global_batch));
  status.Update(positive("micro_batch", options.micro_batch));
  status.Update(positive("vocab", options.vocab));
  status.Update(positive("ranks", options.ranks));
  if (status.ok() && (options.rank < 0 || options.rank >= options.ranks)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", options.rank, " of ", options.ranks,
                     " ranks; ranks are numbered from 0 to ranks - 1"));
  }
  return status;
}

}  // namespace

int NumMicroSteps(const BatchLoaderOptions& options) {
  const int64_t max_samples = options.micro_batch * options.ranks;
  return static_cast<int>((options.global_batch + max_samples - 1) / max_samples);
}

Slice RankSlice(const BatchLoaderOptions& options, int micro_step) {
  const Slice all = EvenPart(options.global_batch, NumMicroSteps(options), micro_step);
  const Slice own = EvenPart(all.count, options.ranks, options.rank);
  return {.first = all.first + own.first, .count = own.count};
}

absl::StatusOr<std::unique_ptr<BatchLoader>> BatchLoader::Create(
    const SampleSource& source, const BatchLoaderOptions& options) {
  const absl::Status status = CheckOptions(options);
  if (!status.ok()) return status;
  return std::unique_ptr<BatchLoader>(new BatchLoader(source, options));
}

BatchLoader::BatchLoader(const SampleSource& source, const BatchLoaderOptions& options)
    : source_(source),
      options_(options),
      num_micro_steps_(NumMicroSteps(options)),
      sample_(options.sequence + 1) {
  // A rank's slice of the first micro-step is its largest.
  const int64_t ids = RankSlice(options, 0).count * options.sequence;
  for (Slot& slot : slots_) {
    slot.tokens.resize(ids);
    slot.targets.resize(ids);
  }
  reader_ = std::thread([this] { ReadAhead(); });
}

BatchLoader::~BatchLoader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  reader_.join();
}

void BatchLoader::ReadAhead() {
  std::unique_lock lock(mutex_);
  while (true) {
    // The caller reads the last slot returned until it calls Next again.
    changed_.wait(lock, [this] {
      return stopping_ || num_filled_ - std::max<int64_t>(num_taken_ - 1, 0) < kSlots;
    });
    if (stopping_) return;
    const ReadPosition position = next_read_;
    const int64_t seeks = seeks_;
    Slot& slot = SlotOf(num_filled_);
    lock.unlock();
    Fill(position, &slot);
    lock.lock();
    if (seeks != seeks_) continue;  // Seek was called meanwhile: drop the slot
    ++num_filled_;
    ++next_read_.position;
    changed_.notify_all();
  }
}

void BatchLoader::Fill(ReadPosition position, Slot* slot) {
  const int64_t step = position.position / num_micro_steps_, sequence = options_.sequence;
  const int micro_step = static_cast<int>(position.position % num_micro_steps_);
  const Slice slice = RankSlice(options_, micro_step);
  const auto vocab = static_cast<uint64_t>(options_.vocab);
  const int64_t first = (step + position.skipped_steps) * options_.global_batch + slice.first;
  slot->bad_sample = -1;
  for (int64_t s = 0; s < slice.count && slot->bad_sample < 0; ++s) {
    source_.Read(first + s, absl::MakeSpan(sample_));
    // As an unsigned number, a negative id is above any vocabulary.
    const auto bad = std::find_if(sample_.begin(), sample_.end(), [vocab](int32_t id) {
      return static_cast<uint64_t>(id) >= vocab;
    });
    if (bad != sample_.end()) {
      slot->bad_sample = first + s;
      slot->bad_offset = bad - sample_.begin();
    }
    std::copy_n(sample_.data(), sequence, slot->tokens.data() + s * sequence);
    std::copy_n(sample_.data() + 1, sequence, slot->targets.data() + s * sequence);
  }
  slot->batch = {.step = step,
                 .micro_step = micro_step,
                 .sequences = slice.count,
                 .global_sequences = options_.global_batch,
                 .tokens = Tensor::Of(slot->tokens.data(), {slice.count * sequence}),
                 .targets = Tensor::Of(slot->targets.data(), {slice.count * sequence})};
}

const Batch& BatchLoader::Next() {
  if (!status_.ok()) return no_batch_;
  int64_t taken;
  {
    std::unique_lock lock(mutex_);
    taken = num_taken_++;
    changed_.notify_all();  // the slot returned before is free
    changed_.wait(lock, [this] { return num_filled_ >= num_taken_; });
  }
  const Slot& slot = SlotOf(taken);
  if (slot.bad_sample >= 0) {
    status_ = BadToken(slot);
    no_batch_ = {.step = slot.batch.step,
                 .micro_step = slot.batch.micro_step,
                 .sequences = 0,
                 .global_sequences = slot.batch.global_sequences,
                 .tokens = slot.batch.tokens.Rows(0, 0),
                 .targets = slot.batch.targets.Rows(0, 0)};
    return no_batch_;
  }
  ++position_;
  return slot.batch;
}

void BatchLoader::Seek(int64_t step) {
  CHECK_GE(step, 0);
  position_ = step * num_micro_steps_;
  status_ = absl::OkStatus();
  {
    // Drop what was read ahead; the slot that the caller still reads is not touched.
    const std::lock_guard lock(mutex_);
    num_filled_ = num_taken_;
    next_read_ = {.position = position_, .skipped_steps = skipped_steps_};
    ++seeks_;
  }
  changed_.notify_all();
}

void BatchLoader::SkipTo(int64_t steps) {
  CHECK_GE(steps, 0);
  skipped_steps_ = steps;
  Seek(cursor());
}

absl::Status BatchLoader::BadToken(const Slot& slot) const {
  const TokenLocation location = source_.Locate(slot.bad_sample, slot.bad_offset);
  return absl::InvalidArgumentError(absl::StrCat(
      location.dataset->prefix(), ".bin: token ", location.token, " (byte ",
      location.token * location.dataset->token_bytes(), ") has id ",
      location.dataset->IdAt(location.token), ", expected 0 to ", options_.vocab - 1,
      "; set model.vocab to the vocabulary of the data's tokenizer, or prepare the data again"));
}

}  // namespace unipool
