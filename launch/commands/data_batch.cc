#include <glog/logging.h>

#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "data/sample_source.h"
#include "launch/checkpoint/config_change.h"
#include "launch/checkpoint/reader.h"
#include "launch/commands/data_views.h"
#include "launch/commands/load_run.h"
#include "launch/commands/run_flags.h"
#include "launch/config/run_config.h"
#include "launch/train/loaders.h"
#include "runtime/status.h"

namespace unipool {

CommandSpec BatchSpec() {
  return {.flags = {
              ConfigFlag(),
              SetFlag(),
              {"step", "N", "first step to print, counted from 1 as in metrics.jsonl (default 1)"},
              {"steps", "N", "number of steps to print (default 1)"},
              {"part", "train|validation|test",
               "part of the data (default train); step N of the other parts is their N-th "
               "window of eval.sequences sequences"},
              HelpFlag()}};
}

namespace {

// Which samples the steps of a part read: step n, counted from 0, reads `size` samples from sample
// (n + skipped_steps) * size on.
struct Batches {
  Split part;
  int64_t size;
  int64_t skipped_steps;
};

absl::StatusOr<Batches> FindBatches(const config::Run& run, const std::string& part) {
  if (part == "train") {
    return Batches{.part = Split::kTrain,
                   .size = run.data().global_batch(),
                   .skipped_steps = run.data().skip_steps()};
  }
  Batches batches{.part = part == "test" ? Split::kTest : Split::kValidation,
                  .size = run.eval().sequences(),
                  .skipped_steps = 0};
  if (part == "validation" || part == "test") return batches;
  return absl::InvalidArgumentError(
      absl::StrCat("--part=", part, ": expected train, validation or test"));
}

// The version of the order with which the run in run_dir began, if there is one.
int OrderVersionOfRun(const config::Run& run) {
  const absl::StatusOr<Checkpoint> newest = OpenCheckpoint(run.run_dir());
  if (!newest.ok()) return kOrderVersion;
  const std::string note = OrderNote(newest->folder(), newest->manifest(), run.data());
  LOG_IF(WARNING, !note.empty()) << note << "; printing that of the run";
  return OrderVersion(run.data(), newest->manifest().data().order_version());
}

// Ids of the type int64 beyond the range of int32 are read as the nearest int32, which must not be
// printed as the id.
absl::Status CheckRange(const SampleSource& source, int64_t sample, absl::Span<const int32_t> ids) {
  using Limits = std::numeric_limits<int32_t>;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != Limits::min() && ids[i] != Limits::max()) continue;
    const TokenLocation location = source.Locate(sample, static_cast<int64_t>(i));
    const int64_t id = location.dataset->IdAt(location.token);
    if (id == ids[i]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(location.dataset->prefix(), ".bin: token ", location.token, " has id ", id,
                     ", which is beyond 32 bits; prepare the data again"));
  }
  return absl::OkStatus();
}

absl::Status PrintBatch(const SampleSource& source, int64_t first, int64_t count,
                        absl::Span<int32_t> sample) {
  for (int64_t i = 0; i < count; ++i) {
    source.Read(first + i, sample);
    RETURN_IF_ERROR(CheckRange(source, first + i, sample));
    const std::string text = absl::StrCat(i == 0 ? "[" : ", [", absl::StrJoin(sample, ", "), "]");
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
      return absl::OkStatus();  // main reports the error of standard output
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PrintBatches(const CommandLine& line) {
  ASSIGN_OR_RETURN(const int64_t first_step, line.Integer("step", 1, 1));
  ASSIGN_OR_RETURN(const int64_t steps, line.Integer("steps", 1, 1));
  ASSIGN_OR_RETURN(const config::Run run,
                   LoadRunAndWarn(line.Value("config", ""), line.Values("set")));
  ASSIGN_OR_RETURN(Batches batches, FindBatches(run, line.Value("part", "train")));
  ASSIGN_OR_RETURN(const std::unique_ptr<Corpus> corpus, Corpus::Open(run.data()));
  ASSIGN_OR_RETURN(const std::unique_ptr<SampleSource> source,
                   CreateSource(run, *corpus, batches.part, OrderVersionOfRun(run)));
  if (batches.size == 0) batches.size = source->samples_per_epoch();
  std::vector<int32_t> sample(run.model().sequence() + 1);
  for (int64_t step = first_step; step < first_step + steps && std::ferror(stdout) == 0; ++step) {
    std::fputs(absl::StrCat("{\"step\": ", step, ", \"samples\": [").c_str(), stdout);
    const int64_t first = (step - 1 + batches.skipped_steps) * batches.size;
    RETURN_IF_ERROR(PrintBatch(*source, first, batches.size, absl::MakeSpan(sample)));
    std::fputs("]}\n", stdout);
  }
  return absl::OkStatus();
}

}  // namespace unipool
