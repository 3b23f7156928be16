#include "launch/train/step_record.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace unipool {
namespace {

// JSON has neither NaN nor infinity.
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

}  // namespace

double StepResult::loss() const {
  return losses.cross_entropy + losses.pool_balance + losses.layer_balance;
}

StepRecord MakeStepRecord(const StepResult& result, const LoadStatistics& statistics,
                          const DivergenceState& divergence) {
  StepRecord record;
  record.step = result.step;
  record.tokens = result.step * result.tokens_per_step;
  record.lm_loss = result.losses.cross_entropy;
  record.pool_loss = result.losses.pool_balance;
  record.layer_aux_loss = result.losses.layer_balance;
  record.grad_norm = result.grad_norm;
  record.lr = result.lr;
  record.exposed_comm_seconds = result.exposed_comm_seconds;
  record.layer_imbalance = statistics.LayerImbalance();
  record.pool_imbalance = statistics.PoolImbalance();
  record.unrouted_share = static_cast<double>(statistics.previous_unrouted()) /
                          static_cast<double>(result.tokens_per_step * result.num_layers);
  record.skipped_updates = divergence.skipped;
  record.rewinds = divergence.rewinds;
  return record;
}

std::string EvaluationFields(const StepRecord& record) {
  std::string json;
  AddEvaluation("validation", record.validation, &json);
  AddEvaluation("test", record.test, &json);
  return json;
}

std::string ToJson(const StepRecord& record) {
  std::string json = absl::StrCat(kStepField, record.step, ", \"tokens\": ", record.tokens);
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
  return absl::StrCat(json, EvaluationFields(record), "}");
}

}  // namespace unipool
