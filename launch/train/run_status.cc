#include "launch/train/run_status.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/run_folder.h"
#include "launch/config/run_config.h"
#include "launch/train/run_events.h"
#include "launch/train/run_lock.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

std::string TextOf(const Json& json, const char* name) {
  const Json* value = json.Find(name);
  return value != nullptr && value->is_string() ? value->string() : "";
}

double NumberOf(const Json& json, const char* name, double absent) {
  const Json* value = json.Find(name);
  return value != nullptr && value->is_number() ? value->number() : absent;
}

// Seconds since the file was written; -1 if there is none.
double AgeOf(const std::string& path) {
  std::error_code error;
  const auto written = std::filesystem::last_write_time(path, error);
  if (error) return -1;
  const auto age = std::filesystem::file_time_type::clock::now() - written;
  return std::max(0.0, std::chrono::duration<double>(age).count());
}

// The newest checkpoint whose manifest is good; "" if there is none.
std::string GoodCheckpoint(const RunFolder& folder) {
  std::string warning;
  const auto steps = StepsToTry(folder.checkpoints(), &warning);
  if (!steps.ok()) return "";
  for (const int64_t step : *steps) {
    const std::string path = CheckpointPath(folder.checkpoints(), step);
    if (Checkpoint::Open(path).ok()) return path;
  }
  return "";
}

// Sets state, reason and since, from the lock and the newest event.
void AddState(const RunFolder& folder, int64_t step, int64_t steps, Json* status) {
  const Json event = LastJsonLine(folder.events());
  const std::string holder = RunLock::Holder(folder);
  std::string state = "unknown";
  if (!holder.empty()) {
    state = "running";
    status->AddMember("holder", holder);
  } else if (TextOf(event, "event") == "end") {
    state = TextOf(event, "status");
    if (!TextOf(event, "reason").empty()) status->AddMember("reason", TextOf(event, "reason"));
  } else if (steps > 0 && step >= steps) {
    state = "finished";
  } else if (event.is_object()) {
    state = "killed";
    status->AddMember("reason", "it ended without a last word; see log/ in its folder");
  }
  status->AddMember("state", state);
  if (!TextOf(event, "time").empty()) status->AddMember("since", TextOf(event, "time"));
}

std::string Duration(double seconds) {
  return absl::FormatDuration(absl::Seconds(std::llround(seconds)));
}

}  // namespace

absl::StatusOr<Json> ReadRunStatus(const std::string& run_dir) {
  const RunFolder folder(run_dir);
  ASSIGN_OR_RETURN(const bool is_run, Exists(folder.config()));
  if (!is_run) {
    return absl::FailedPreconditionError(
        absl::StrCat(run_dir,
                     ": is no run folder: it has no config.textproto; give the folder "
                     "that --run-dir named"));
  }
  std::vector<std::string> warnings;
  const absl::StatusOr<config::Run> run = LoadRunConfig(folder.config(), {}, &warnings);
  const int64_t steps = run.ok() ? run->steps() : 0;
  const Json record = LastJsonLine(folder.metrics());
  const auto step = static_cast<int64_t>(NumberOf(record, "step", 0));
  Json status = {{"run", run_dir}};
  AddState(folder, step, steps, &status);
  status.AddMember("step", step);
  if (steps > 0) status.AddMember("steps", steps);
  const double loss = NumberOf(record, "lm_loss", NAN);
  if (std::isfinite(loss)) status.AddMember("loss", loss);
  const double step_seconds = NumberOf(record, "step_seconds", 0);
  if (TextOf(status, "state") == "running" && steps > step && step_seconds > 0) {
    status.AddMember("eta_seconds", step_seconds * static_cast<double>(steps - step));
  }
  const double age = AgeOf(folder.metrics());
  if (age >= 0) status.AddMember("record_age_seconds", age);
  const std::string checkpoint = GoodCheckpoint(folder);
  if (!checkpoint.empty()) status.AddMember("checkpoint", checkpoint);
  return status;
}

std::string StatusLine(const Json& status) {
  std::string line = absl::StrCat(TextOf(status, "run"), ": ", TextOf(status, "state"));
  if (!TextOf(status, "holder").empty()) {
    absl::StrAppend(&line, " (", TextOf(status, "holder"), ")");
  }
  if (!TextOf(status, "since").empty()) absl::StrAppend(&line, " since ", TextOf(status, "since"));
  if (!TextOf(status, "reason").empty()) absl::StrAppend(&line, ": ", TextOf(status, "reason"));
  absl::StrAppendFormat(&line, "; step %d", status.at("step").integer());
  const double steps = NumberOf(status, "steps", 0);
  if (steps > 0) absl::StrAppendFormat(&line, " of %.0f", steps);
  const double loss = NumberOf(status, "loss", NAN);
  if (std::isfinite(loss)) absl::StrAppendFormat(&line, ", loss %.4f", loss);
  const double eta = NumberOf(status, "eta_seconds", -1);
  if (eta >= 0) absl::StrAppend(&line, ", ETA ", Duration(eta));
  const double age = NumberOf(status, "record_age_seconds", -1);
  if (TextOf(status, "state") == "running" && age >= 0) {
    absl::StrAppend(&line, ", last record ", Duration(age), " ago");
  }
  const std::string checkpoint = TextOf(status, "checkpoint");
  return absl::StrCat(line, "; ", checkpoint.empty() ? "no good checkpoint" : checkpoint);
}

}  // namespace unipool
