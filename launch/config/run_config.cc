#include "launch/config/run_config.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "comm/process_groups.h"
#include "configs/run.pb.h"
#include "data/sample_order.h"
#include "launch/config/config_fields.h"
#include "launch/config/config_text.h"
#include "launch/config/corpus.h"
#include "launch/config/renamed_fields.h"
#include "model/router_constant.h"
#include "runtime/files.h"
#include "runtime/quote.h"
#include "runtime/status.h"
#include "runtime/utf8.h"

namespace unipool {
namespace {

// Up to this size, the product of two sizes fits into an int64 and every id into an int32.
constexpr int64_t kLargestSize = 2147483647;
constexpr int64_t kMaxExperts = 65536;
constexpr int kMaxSequences = 1 << 24;  // in a step
constexpr int64_t kByteVocab = 257;
constexpr int kMaxSources = 65535;
constexpr uint64_t kLargestMegatronSeed = 4294967295;

// Checks one rule at a time. The error of a broken rule begins with the place where its field was
// set.
class Rules {
 public:
  Rules(const config::Run& run, std::string source, const FieldOrigins& origins)
      : run_(run), source_(std::move(source)), origins_(origins) {}

  // OK if `holds`; else an error that asks to set the field `path` to `wanted`.
  absl::Status Require(bool holds, const std::string& path, const std::string& wanted) const {
    if (holds) return absl::OkStatus();
    return RequireAt(holds, path, Found(path), absl::StrCat("set it to ", wanted));
  }

  // The same with words of the caller, for elements of lists and for other advice.
  absl::Status RequireAt(bool holds, const std::string& path, const std::string& found,
                         const std::string& advice) const {
    if (holds) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(Origin(path), ": ", path, ": ", found, "; ", advice));
  }

  absl::Status Integer(const std::string& path, int64_t min, int64_t max = kLargestSize) const {
    const bool is_given = HasValueOrDefault(run_, path);
    const double value = NumberAt(run_, path);
    const double least = static_cast<double>(min), most = static_cast<double>(max);
    const std::string range =
        value > most ? absl::StrCat("at most ", max) : absl::StrCat("at least ", min);
    return Require(is_given && value >= least && value <= most, path,
                   absl::StrCat("an integer of ", range));
  }

  absl::Status AboveZero(const std::string& path) const {
    const double value = NumberAt(run_, path);
    return Require(std::isfinite(value) && value > 0, path, "a number above 0");
  }

  absl::Status NotNegative(const std::string& path) const {
    const double value = NumberAt(run_, path);
    return Require(std::isfinite(value) && value >= 0, path, "a number of at least 0");
  }

  absl::Status Decay(const std::string& path) const {
    const double value = NumberAt(run_, path);
    // The optimizer uses it in float32, where 0.99999999 is 1.
    return Require(value >= 0 && static_cast<float>(value) < 1, path,
                   "a number of at least 0 and below 1");
  }

  // The field on the other side of a rule: "model.heads = 12 (configs/x.textproto:4:3)".
  std::string Other(const std::string& path) const {
    const auto place = origins_.find(path);
    return absl::StrCat(path, " = ", CutInput(TextAt(run_, path)),
                        place == origins_.end() ? "" : absl::StrCat(" (", place->second, ")"));
  }

  // "found 12", "found 12 (the default)" or "not set".
  std::string Found(const std::string& path) const {
    if (!HasValueOrDefault(run_, path)) return "not set";
    return absl::StrCat("found ", CutInput(TextAt(run_, path)),
                        HasValue(run_, path) ? "" : " (the default)");
  }

 private:
  // The place where the field was set, else that of the innermost message around it that was set,
  // else the name of the whole config.
  std::string Origin(const std::string& path) const {
    for (std::string at = path; !at.empty();) {
      const auto found = origins_.find(at);
      if (found != origins_.end()) return found->second;
      const size_t dot = at.rfind('.');
      at = dot == std::string::npos ? "" : at.substr(0, dot);
    }
    return source_;
  }

  const config::Run& run_;
  const std::string source_;
  const FieldOrigins& origins_;
};

absl::Status CheckHeads(const config::Model& model, const Rules& rules) {
  RETURN_IF_ERROR(rules.Integer("model.heads", 1));
  RETURN_IF_ERROR(rules.Integer("model.kv_heads", 0));
  RETURN_IF_ERROR(rules.Require(model.kv_heads() == 0 || model.heads() % model.kv_heads() == 0,
                                "model.kv_heads",
                                absl::StrCat("a divisor of ", rules.Other("model.heads"))));
  RETURN_IF_ERROR(rules.Integer("model.head_dim", 0));
  if (model.head_dim() != 0) {
    return rules.Require(model.head_dim() % 2 == 0, "model.head_dim", "0 or an even number");
  }
  RETURN_IF_ERROR(rules.Require(
      model.hidden() % model.heads() == 0, "model.heads",
      absl::StrCat("a divisor of ", rules.Other("model.hidden"), ", or set model.head_dim")));
  return rules.RequireAt(
      model.hidden() / model.heads() % 2 == 0, "model.heads",
      absl::StrCat(rules.Found("model.heads"), ", which makes hidden / heads = ",
                   model.hidden() / model.heads(), " with ", rules.Other("model.hidden")),
      "make hidden / heads an even number, or set model.head_dim");
}

absl::Status CheckModel(const config::Run& run, const Rules& rules) {
  const config::Model& model = run.model();
  RETURN_IF_ERROR(rules.Integer("model.vocab", 1));
  RETURN_IF_ERROR(rules.Require(
      run.data().tokenizer() != config::Data::BYTE || model.vocab() >= kByteVocab, "model.vocab",
      absl::StrCat("at least ", kByteVocab, " with ", rules.Other("data.tokenizer"))));
  RETURN_IF_ERROR(rules.Integer("model.hidden", 1));
  RETURN_IF_ERROR(rules.Integer("model.layers", 1));
  RETURN_IF_ERROR(CheckHeads(model, rules));
  RETURN_IF_ERROR(rules.Integer("model.ffn", 0));
  RETURN_IF_ERROR(rules.Integer("model.sequence", 1));
  RETURN_IF_ERROR(rules.AboveZero("model.rope_base"));
  RETURN_IF_ERROR(rules.AboveZero("model.norm_eps"));
  return rules.NotNegative("model.init_std");
}

absl::Status CheckPool(const config::Run& run, const Rules& rules) {
  if (run.model().ffn_kind() == config::Model::DENSE) return absl::OkStatus();
  const config::Pool& pool = run.pool();
  RETURN_IF_ERROR(rules.Integer("pool.experts", 1, kMaxExperts));
  RETURN_IF_ERROR(rules.Integer("pool.top_k", 1));
  RETURN_IF_ERROR(rules.Require(pool.top_k() <= pool.experts(), "pool.top_k",
                                absl::StrCat("at most ", rules.Other("pool.experts"))));
  RETURN_IF_ERROR(rules.Integer("pool.layers_per_pool", 0));
  RETURN_IF_ERROR(rules.Require(
      pool.layers_per_pool() == 0 || run.model().layers() % pool.layers_per_pool() == 0,
      "pool.layers_per_pool", absl::StrCat("a divisor of ", rules.Other("model.layers"))));
  RETURN_IF_ERROR(rules.Integer("pool.gradient_layers", 0));
  RETURN_IF_ERROR(rules.NotNegative("pool.router_eps"));
  RETURN_IF_ERROR(rules.NotNegative("pool.router_c"));
  RETURN_IF_ERROR(rules.NotNegative("pool.bias_rate"));
  RETURN_IF_ERROR(rules.NotNegative("pool.pool_loss"));
  return rules.NotNegative("pool.layer_loss");
}

absl::Status CheckSplit(const config::Run& run, const Rules& rules) {
  const absl::StatusOr<SplitShares> shares = ParseSplitShares(run.data().split());
  RETURN_IF_ERROR(rules.Require(shares.ok(), "data.split", kSplitWanted));
  const double test = (*shares)[static_cast<size_t>(Split::kTest)];
  return rules.Require(test > 0 || !run.eval().test(), "data.split",
                       "weights with the third above 0, or set eval.test to false");
}

absl::Status CheckTokenizer(const config::Data& data, const Rules& rules) {
  const bool has_vocab = !data.vocab_file().empty(), has_merges = !data.merges_file().empty();
  RETURN_IF_ERROR(
      rules.Require(has_vocab || !has_merges, "data.vocab_file",
                    absl::StrCat("the vocab.json of ", rules.Other("data.merges_file"))));
  RETURN_IF_ERROR(
      rules.Require(has_merges || !has_vocab, "data.merges_file",
                    absl::StrCat("the merges.txt of ", rules.Other("data.vocab_file"))));
  return rules.Require(!has_vocab || data.tokenizer() == config::Data::GPT2, "data.tokenizer",
                       absl::StrCat("GPT2 to use ", rules.Other("data.vocab_file")));
}

constexpr char kPrefixWanted[] = "PREFIX of the files PREFIX.bin and PREFIX.idx";

absl::Status CheckSources(const config::Data& data, const Rules& rules) {
  if (data.source().empty()) {
    return rules.Require(!data.prefix().empty(), "data.prefix", kPrefixWanted);
  }
  RETURN_IF_ERROR(rules.RequireAt(data.prefix().empty(), "data.prefix",
                                  absl::StrCat(rules.Found("data.prefix"), " and also data.source"),
                                  "remove one of them"));
  RETURN_IF_ERROR(rules.RequireAt(data.source_size() <= kMaxSources, "data.source",
                                  absl::StrCat("found ", data.source_size(), " datasets"),
                                  absl::StrCat("list at most ", kMaxSources)));
  for (int i = 0; i < data.source_size(); ++i) {
    const std::string path = absl::StrCat("data.source[", i, "]");
    const double weight = data.source(i).weight();
    RETURN_IF_ERROR(rules.RequireAt(!data.source(i).prefix().empty(), path + ".prefix", "not set",
                                    absl::StrCat("set it to ", kPrefixWanted)));
    RETURN_IF_ERROR(rules.RequireAt(std::isfinite(weight) && weight > 0, path + ".weight",
                                    absl::StrCat("found ", weight), "set it to a number above 0"));
  }
  return absl::OkStatus();
}

// Blends have no end, and the arrays of MEGATRON are made for a number of samples: both need the
// number of validation sequences.
absl::Status CheckOrder(const config::Run& run, const Rules& rules) {
  const config::Data& data = run.data();
  const bool is_megatron = data.order() == config::Data::MEGATRON;
  RETURN_IF_ERROR(rules.RequireAt(!is_megatron || run.seed() <= kLargestMegatronSeed, "seed",
                                  absl::StrCat("found ", run.seed()),
                                  absl::StrCat("set it to at most ", kLargestMegatronSeed, " with ",
                                               rules.Other("data.order"))));
  RETURN_IF_ERROR(rules.Integer("data.skip_steps", 0));
  const bool needs_number =
      (is_megatron || !data.source().empty()) && (HasValidation(data) || run.eval().test());
  return rules.Require(
      !needs_number || run.eval().sequences() > 0, "eval.sequences",
      absl::StrCat("at least 1 with ", is_megatron ? rules.Other("data.order") : "data.source"));
}

absl::Status CheckData(const config::Run& run, const Rules& rules) {
  const config::Data& data = run.data();
  RETURN_IF_ERROR(CheckSources(data, rules));
  RETURN_IF_ERROR(CheckSplit(run, rules));
  RETURN_IF_ERROR(CheckTokenizer(data, rules));
  RETURN_IF_ERROR(rules.Integer("data.global_batch", 1));
  RETURN_IF_ERROR(rules.Require(data.global_batch() <= kMaxSequences, "data.global_batch",
                                absl::StrCat("at most ", kMaxSequences)));
  RETURN_IF_ERROR(rules.Integer("data.micro_batch", 0));
  return rules.Require(data.micro_batch() <= data.global_batch(), "data.micro_batch",
                       absl::StrCat("at most ", rules.Other("data.global_batch")));
}

absl::Status CheckOptimizer(const Rules& rules) {
  RETURN_IF_ERROR(rules.Decay("optimizer.beta1"));
  RETURN_IF_ERROR(rules.Decay("optimizer.beta2"));
  RETURN_IF_ERROR(rules.AboveZero("optimizer.eps"));
  RETURN_IF_ERROR(rules.NotNegative("optimizer.weight_decay"));
  return rules.NotNegative("optimizer.clip_norm");
}

absl::Status CheckSchedule(const config::Run& run, const Rules& rules) {
  const config::Schedule& schedule = run.schedule();
  RETURN_IF_ERROR(rules.AboveZero("schedule.lr"));
  RETURN_IF_ERROR(rules.NotNegative("schedule.min_lr"));
  RETURN_IF_ERROR(rules.Require(schedule.min_lr() <= schedule.lr(), "schedule.min_lr",
                                absl::StrCat("at most ", rules.Other("schedule.lr"))));
  RETURN_IF_ERROR(rules.Integer("schedule.decay_steps", 0));
  RETURN_IF_ERROR(rules.Integer("schedule.warmup_steps", -1));
  const std::string end = schedule.decay_steps() == 0 ? "steps" : "schedule.decay_steps";
  return rules.Require(static_cast<double>(schedule.warmup_steps()) <= NumberAt(run, end),
                       "schedule.warmup_steps",
                       absl::StrCat("at most ", rules.Other(end),
                                    "; for a short trial of a long run, train --smoke N"));
}

absl::Status CheckSpike(const config::Run& run, const Rules& rules, const std::string& path) {
  const double value = NumberAt(run, path);
  return rules.Require(value == 0 || (std::isfinite(value) && value > 1), path,
                       "0, or a number above 1");
}

absl::Status CheckDivergence(const config::Run& run, const Rules& rules) {
  RETURN_IF_ERROR(CheckSpike(run, rules, "divergence.loss_spike"));
  RETURN_IF_ERROR(CheckSpike(run, rules, "divergence.norm_spike"));
  RETURN_IF_ERROR(rules.Integer("divergence.window", 1));
  RETURN_IF_ERROR(rules.Integer("divergence.max_skips_in_a_row", 1));
  return rules.Integer("divergence.max_rewinds", 1);
}

absl::Status CheckRun(const config::Run& run, const Rules& rules) {
  RETURN_IF_ERROR(rules.Require(!run.run_dir().empty(), "run_dir", "the path of a folder"));
  RETURN_IF_ERROR(rules.Integer("steps", 1));
  RETURN_IF_ERROR(CheckModel(run, rules));
  RETURN_IF_ERROR(CheckPool(run, rules));
  RETURN_IF_ERROR(CheckData(run, rules));
  RETURN_IF_ERROR(CheckOptimizer(rules));
  RETURN_IF_ERROR(CheckSchedule(run, rules));
  RETURN_IF_ERROR(rules.Integer("parallel.expert_parallel", 0));
  RETURN_IF_ERROR(rules.Integer("parallel.threads", 0));
  RETURN_IF_ERROR(rules.Require(run.parallel().threads() <= kMaxThreads, "parallel.threads",
                                absl::StrCat("at most ", kMaxThreads)));
  RETURN_IF_ERROR(rules.Integer("parallel.deadline_seconds", 1));
  RETURN_IF_ERROR(rules.Integer("parallel.exchange_chunks", 0));
  for (const char* field : {"every_steps", "keep_last", "keep_every"}) {
    RETURN_IF_ERROR(rules.Integer(absl::StrCat("checkpoint.", field), 0));
  }
  RETURN_IF_ERROR(CheckDivergence(run, rules));
  RETURN_IF_ERROR(rules.Integer("eval.every_steps", 0));
  RETURN_IF_ERROR(rules.Integer("eval.sequences", 0));
  return CheckOrder(run, rules);
}

// The text of a config file, without the byte order mark that some editors write.
absl::StatusOr<std::string> ReadConfigFile(const std::string& file) {
  constexpr int64_t kMaxBytes = 1 << 24;
  const absl::StatusOr<std::string> read = ReadSmallFile(file, kMaxBytes);
  if (!read.ok()) return absl::InvalidArgumentError(read.status().message());
  absl::string_view text = *read;
  if (absl::StartsWith(text, "\xff\xfe") || absl::StartsWith(text, "\xfe\xff")) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": is UTF-16 text; save it as UTF-8"));
  }
  absl::ConsumePrefix(&text, kByteOrderMark);
  return std::string(text);
}

// Overrides are collected in a message of their own, so that one may replace a field of the file
// that has its former name there.
absl::StatusOr<config::Run> Override(config::Run run, const std::string& source,
                                     FieldOrigins origins,
                                     const std::vector<std::string>& overrides,
                                     std::vector<std::string>* warnings) {
  config::Run given;
  FieldOrigins given_at;
  for (const std::string& assignment : overrides) {
    RETURN_IF_ERROR(SetField(assignment, &given, &given_at));
  }
  RETURN_IF_ERROR(MoveRenamedFields(&given, &given_at, warnings));
  run.MergeFrom(given);
  for (const auto& [path, origin] : given_at) origins[path] = origin;
  RETURN_IF_ERROR(CheckRun(run, Rules(run, source, origins)));
  ResolveDefaults(&run);
  return run;
}

}  // namespace

absl::StatusOr<config::Run> LoadRunConfig(const std::string& file,
                                          const std::vector<std::string>& overrides,
                                          std::vector<std::string>* warnings) {
  config::Run run;
  FieldOrigins origins;
  if (!file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadConfigFile(file));
    RETURN_IF_ERROR(ParseConfigText(text, file, &run, &origins));
    RETURN_IF_ERROR(MoveRenamedFields(&run, &origins, warnings));
  }
  const std::string source = file.empty() ? "command line (no --config given)" : file;
  return Override(std::move(run), source, std::move(origins), overrides, warnings);
}

absl::StatusOr<config::Run> OverrideRunConfig(config::Run run, const std::string& source,
                                              const std::vector<std::string>& overrides,
                                              std::vector<std::string>* warnings) {
  return Override(std::move(run), source, {}, overrides, warnings);
}

absl::Status CheckRunConfig(const config::Run& run, const std::string& source) {
  const FieldOrigins nowhere;
  return CheckRun(run, Rules(run, source, nowhere));
}

absl::Status CheckRanks(const config::Run& run, int ranks) {
  return CheckExpertParallel(run.parallel().expert_parallel(), ranks);
}

float DefaultInitStd(int64_t hidden) {
  return static_cast<float>(std::sqrt(0.4 / static_cast<double>(hidden)));
}

void ResolveDefaults(config::Run* run) {
  // This router balances by its bias, without a loss.
  if (run->pool().router() == config::Pool::SIGMOID_BIAS && !run->pool().has_pool_loss()) {
    run->mutable_pool()->set_pool_loss(0);
  }
  if (run->model().ffn_kind() == config::Model::MOE && !run->pool().has_router() &&
      run->pool().router_c() == 0 && run->pool().experts() < kFewestNormExperts) {
    run->mutable_pool()->set_router(config::Pool::SOFTMAX);
  }
  MakeDefaultsExplicit(run);
  config::Model& model = *run->mutable_model();
  if (model.init_std() == 0) model.set_init_std(DefaultInitStd(model.hidden()));
  if (model.kv_heads() == 0) model.set_kv_heads(model.heads());
  if (model.head_dim() == 0) model.set_head_dim(model.hidden() / model.heads());
  if (model.ffn() == 0) model.set_ffn(4 * model.hidden());
  config::Pool& pool = *run->mutable_pool();
  if (pool.layers_per_pool() == 0) pool.set_layers_per_pool(model.layers());
  config::Schedule& schedule = *run->mutable_schedule();
  if (schedule.decay_steps() == 0) schedule.set_decay_steps(run->steps());
  if (schedule.warmup_steps() == -1) {
    schedule.set_warmup_steps(std::max<int64_t>(1, schedule.decay_steps() / 100));
  }
}

void StateRouterConstant(config::Run* run) {
  config::Pool& pool = *run->mutable_pool();
  const bool is_norm =
      run->model().ffn_kind() == config::Model::MOE && pool.router() == config::Pool::NORM;
  if (!is_norm || pool.router_c() != 0) return;
  const int experts = static_cast<int>(pool.experts()), top_k = static_cast<int>(pool.top_k());
  pool.set_router_c(EstimateRouterConstant(experts, top_k).c);
}

std::string ToText(const config::Run& run) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(run, &text);
  return text;
}

}  // namespace unipool
