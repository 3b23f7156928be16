#include "launch/train/metrics.h"

#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// What every record begins with; the step follows.
constexpr char kFirstField[] = "{\"step\": ";

// JSON has no NaN or infinity.
std::string Number(double value) {
  return std::isfinite(value) ? absl::StrFormat("%.17g", value) : "null";
}

void Add(const std::string& name, double value, std::string* json) {
  absl::StrAppend(json, ", \"", name, "\": ", Number(value));
}

void AddEvaluation(const std::string& part, const std::optional<Validation>& result,
                   std::string* json) {
  if (!result.has_value()) return;
  Add(part + "_loss", result->loss, json);
  Add(part + "_perplexity", result->perplexity(), json);
  if (result->bits_per_byte.has_value()) Add(part + "_bits_per_byte", *result->bits_per_byte, json);
}

// Empty where the record has no validation.
std::string ValidationFields(const StepRecord& record) {
  std::string json;
  AddEvaluation("validation", record.validation, &json);
  AddEvaluation("test", record.test, &json);
  return json;
}

std::string Remaining(double seconds) {
  const int64_t whole = std::llround(seconds);
  if (whole >= 3600) return absl::StrFormat("%dh%02dm", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  return absl::StrFormat("%ds", whole);
}

// What a file that ends with the record of `last` lacks for a run that goes on after `step`; "" for
// nothing. Step 0 may have had no record.
std::string GapText(int64_t last, int64_t step, bool is_cut) {
  const int64_t first = std::max<int64_t>(last + 1, 1);
  std::string text = is_cut ? "half a line at the end is removed" : "";
  if (first > step) return text;
  if (is_cut) text += "; ";
  absl::StrAppend(&text, "the records of steps ", first, " to ", step,
                  " are missing: lost with the host, or by hand; the run goes on after step ",
                  step);
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Create(const std::string& path) {
  return Open(path, "w");
}

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Continue(const std::string& path,
                                                                   int64_t step) {
  std::ifstream file(path);
  std::string kept, last, line;
  int64_t last_step = -1;
  bool is_cut = false;
  while (std::getline(file, line)) {
    is_cut = file.eof();  // a last line without its end is half of one
    if (is_cut) break;
    absl::string_view rest = line;
    int64_t of_line = 0;
    const bool is_record =
        absl::ConsumePrefix(&rest, kFirstField) &&
        absl::SimpleAtoi(rest.substr(0, rest.find_first_not_of("0123456789")), &of_line);
    if (!is_record || of_line > step) break;
    absl::StrAppend(&kept, last);
    last = line + "\n";
    last_step = of_line;
  }
  const std::string gap = GapText(last_step, step, is_cut);
  LOG_IF(WARNING, !gap.empty()) << path << ": " << gap;
  RETURN_IF_ERROR(WriteFileAtomically(path, kept + last));
  ASSIGN_OR_RETURN(auto opened, Open(path, "r+"));
  opened->held_ = last;
  opened->held_step_ = last_step;
  opened->written_ = static_cast<int64_t>(kept.size());
  std::fseek(opened->file_, opened->written_, SEEK_SET);
  return opened;
}

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Open(const std::string& path,
                                                               const char* mode) {
  std::FILE* file = std::fopen(path.c_str(), mode);
  if (file == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": cannot be written: ", std::strerror(errno)));
  }
  std::setvbuf(file, nullptr, _IONBF, 0);  // so that what failed is not tried again by itself
  return std::unique_ptr<MetricsFile>(new MetricsFile(path, file));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

absl::Status MetricsFile::Write(const StepRecord& record) {
  std::string line = ToJson(record) + "\n";
  if (!held_.empty() && !record.has_training && record.step == held_step_) {
    line = absl::StrCat(held_.substr(0, held_.rfind('}')), ValidationFields(record), "}\n");
  } else {
    line = held_ + line;
  }
  if (std::fwrite(line.data(), 1, line.size(), file_) == line.size() && std::fflush(file_) == 0) {
    held_.clear();
    written_ += static_cast<int64_t>(line.size());
    return absl::OkStatus();
  }
  const absl::Status status =
      absl::DataLossError(absl::StrCat(path_, ": write failed: ", std::strerror(errno)));
  // A part of a line would spoil the next one.
  std::clearerr(file_);
  std::fseek(file_, written_, SEEK_SET);
  if (ftruncate(fileno(file_), written_) != 0) {
    LOG_FIRST_N(WARNING, 1) << path_ << ": cannot be cut back: " << std::strerror(errno);
  }
  return status;
}

std::string ToJson(const StepRecord& record) {
  std::string json = absl::StrCat(kFirstField, record.step, ", \"tokens\": ", record.tokens);
  const auto add = [&json](const char* name, double value) { Add(name, value, &json); };
  if (record.step > 0 && record.has_training) {
    add("lm_loss", record.lm_loss);
    add("pool_loss", record.pool_loss);
    add("layer_aux_loss", record.layer_aux_loss);
    add("grad_norm", record.grad_norm);
    add("lr", record.lr);
    add("tokens_per_second", record.tokens_per_second);
    add("step_seconds", record.step_seconds);
    add("exposed_comm_seconds", record.exposed_comm_seconds);
    add("layer_imbalance", record.layer_imbalance);
    add("pool_imbalance", record.pool_imbalance);
    add("unrouted_share", record.unrouted_share);
    absl::StrAppend(&json, ", \"skipped_updates\": ", record.skipped_updates,
                    ", \"rewinds\": ", record.rewinds);
    add("checkpoint_stall_seconds", record.checkpoint_stall_seconds);
    add("checkpoint_gigabytes_per_second", record.checkpoint_gigabytes_per_second);
  }
  return absl::StrCat(json, ValidationFields(record), "}");
}

ProgressLine::ProgressLine(int64_t total_steps, bool live)
    : total_steps_(total_steps), live_(live), last_(absl::InfinitePast()) {}

ProgressLine::~ProgressLine() {
  if (live_ && shown_) std::fputc('\n', stdout);
}

// Live: a few times a second. Plain: the first, the last, validations, and every ten seconds.
bool ProgressLine::Due(const StepRecord& record) const {
  if (record.step == total_steps_ || record.step == 1) return true;
  if (!live_ && record.validation.has_value()) return true;
  return absl::Now() - last_ >= (live_ ? absl::Milliseconds(200) : absl::Seconds(10));
}

void ProgressLine::Show(const StepRecord& record) {
  // The first two steps of a start are slower than all others.
  seconds_per_step_ = ++steps_seen_ <= 2 ? record.step_seconds
                                         : 0.9 * seconds_per_step_ + 0.1 * record.step_seconds;
  if (!Due(record)) return;
  last_ = absl::Now();
  std::string line = absl::StrFormat(
      "step %d/%d  loss %.4f  lr %.2e  norm %.2f  %.0f tokens/s  left %s", record.step,
      total_steps_, record.lm_loss, record.lr, record.grad_norm, record.tokens_per_second,
      Remaining(seconds_per_step_ * static_cast<double>(total_steps_ - record.step)));
  if (record.layer_imbalance > 0) {
    absl::StrAppendFormat(&line, "  imbalance layer %.2f pool %.2f", record.layer_imbalance,
                          record.pool_imbalance);
  }
  if (record.unrouted_share >= 0.01) {
    absl::StrAppendFormat(&line, "  unrouted %.0f%%", 100 * record.unrouted_share);
  }
  ClearLive();
  std::fputs(line.c_str(), stdout);
  if (!live_) std::fputc('\n', stdout);
  std::fflush(stdout);
  shown_ = true;
}

void ProgressLine::Say(const std::string& text) {
  ClearLive();
  std::fputs((text + "\n").c_str(), stdout);
  std::fflush(stdout);
  shown_ = false;
}

void ProgressLine::ClearLive() {
  if (live_) std::fputs("\r\033[K", stdout);
}

bool OutputIsTerminal() {
  const char* told = std::getenv("UNIPOOL_TERMINAL");
  if (told != nullptr) return std::strcmp(told, "1") == 0;
  return std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr && isatty(STDOUT_FILENO) == 1;
}

}  // namespace unipool
