#include "launch/metrics.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace unipool {
namespace {

// JSON has no NaN or infinity.
std::string Number(double value) {
  return std::isfinite(value) ? absl::StrFormat("%.17g", value) : "null";
}

std::string Remaining(double seconds) {
  const int64_t whole = std::llround(seconds);
  if (whole >= 3600) return absl::StrFormat("%dh%02dm", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  return absl::StrFormat("%ds", whole);
}

}  // namespace

double Validation::perplexity() const { return loss > 20.0 ? std::exp(20.0) : std::exp(loss); }

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Create(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": cannot be written: ", std::strerror(errno)));
  }
  return std::unique_ptr<MetricsFile>(new MetricsFile(path, file));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

absl::Status MetricsFile::Write(const StepRecord& record) {
  const std::string line = ToJson(record) + "\n";
  if (std::fwrite(line.data(), 1, line.size(), file_) == line.size() && std::fflush(file_) == 0) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(path_, ": write failed: ", std::strerror(errno)));
}

std::string ToJson(const StepRecord& record) {
  std::string json = absl::StrCat("{\"step\": ", record.step, ", \"tokens\": ", record.tokens);
  const auto add = [&json](const char* name, double value) {
    absl::StrAppend(&json, ", \"", name, "\": ", Number(value));
  };
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
  }
  if (record.validation.has_value()) {
    add("validation_loss", record.validation->loss);
    add("validation_perplexity", record.validation->perplexity());
    if (record.validation->bits_per_byte.has_value()) {
      add("validation_bits_per_byte", *record.validation->bits_per_byte);
    }
  }
  return json + "}";
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
  seconds_per_step_ =
      record.step <= 2 ? record.step_seconds : 0.9 * seconds_per_step_ + 0.1 * record.step_seconds;
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
