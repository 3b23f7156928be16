#include "launch/analysis/evaluation_text.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "runtime/status.h"

namespace unipool {

absl::StatusOr<Split> ParseSplit(const std::string& flag, const std::string& name) {
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    if (name == SplitName(split)) return split;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " ", name, ": expected validation, test or train"));
}

const char* SplitName(Split split) {
  if (split == Split::kTrain) return "train";
  return split == Split::kValidation ? "validation" : "test";
}

EvaluationText::EvaluationText(std::unique_ptr<Corpus> corpus, std::unique_ptr<SampleSource> source,
                               const TextPart& part, int64_t vocab)
    : corpus_(std::move(corpus)), source_(std::move(source)), part_(part), vocab_(vocab) {}

absl::StatusOr<std::unique_ptr<EvaluationText>> EvaluationText::Open(const config::Run& run,
                                                                     const TextPart& wanted) {
  const bool is_megatron = run.data().order() == config::Data::MEGATRON;
  if (wanted.sequences == 0 && (is_megatron || !run.data().source().empty())) {
    return absl::InvalidArgumentError(
        absl::StrCat("--sequences 0: ", is_megatron ? "data.order = MEGATRON" : "a blend",
                     " has no end; use --sequences 1 or more"));
  }
  ASSIGN_OR_RETURN(auto corpus, Corpus::Open(run.data()));
  ASSIGN_OR_RETURN(auto source, CreateSource(run, *corpus, wanted.split, wanted.order_version));
  TextPart part = wanted;
  const int64_t available = source->samples_per_epoch() - wanted.first;
  if (available <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(run.data().prefix(), ": the ", SplitName(wanted.split), " part has ",
                     source->samples_per_epoch(), " sequences, expected more than --",
                     wanted.first_flag, " ", wanted.first, "; reduce that value or add data"));
  }
  part.sequences = wanted.sequences == 0 ? available : std::min(available, wanted.sequences);
  return std::unique_ptr<EvaluationText>(
      new EvaluationText(std::move(corpus), std::move(source), part, run.model().vocab()));
}

absl::Status EvaluationText::Read(int64_t i, absl::Span<int32_t> ids) const {
  source_->Read(part_.first + i, ids);
  const auto bad =
      std::find_if(ids.begin(), ids.end(), [this](int32_t id) { return id < 0 || id >= vocab_; });
  if (bad == ids.end()) return absl::OkStatus();
  const TokenLocation location = source_->Locate(part_.first + i, bad - ids.begin());
  return absl::InvalidArgumentError(
      absl::StrCat(location.dataset->prefix(), ".bin: token ", location.token, " has id ",
                   location.dataset->IdAt(location.token), ", expected 0 to ", vocab_ - 1,
                   "; the data belong to another tokenizer"));
}

}  // namespace unipool
