#include "launch/evaluation_text.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "runtime/status.h"

namespace unipool {

absl::StatusOr<Split> ParseSplit(const std::string& name) {
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    if (name == SplitName(split)) return split;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--split ", name, ": expected validation, test or train"));
}

const char* SplitName(Split split) {
  if (split == Split::kTrain) return "train";
  return split == Split::kValidation ? "validation" : "test";
}

EvaluationText::EvaluationText(std::unique_ptr<IndexedDataset> dataset, SampleOrder order,
                               const TextPart& part, int64_t vocab)
    : dataset_(std::move(dataset)), order_(order), part_(part), vocab_(vocab) {}

absl::StatusOr<std::unique_ptr<EvaluationText>> EvaluationText::Open(const config::Run& run,
                                                                     const TextPart& wanted) {
  ASSIGN_OR_RETURN(auto dataset, IndexedDataset::Open(run.data().prefix()));
  ASSIGN_OR_RETURN(const TokenRange range, SplitRange(*dataset, run.data().split(), wanted.split));
  ASSIGN_OR_RETURN(const SampleOrder order,
                   SampleOrder::Create(range, run.model().sequence(), run.seed(), false));
  TextPart part = wanted;
  const int64_t left = order.samples_per_epoch() - wanted.first;
  if (left <= 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        run.data().prefix(), ": the ", SplitName(wanted.split), " part has ",
        order.samples_per_epoch(), " sequences, expected more than --first ", wanted.first));
  }
  part.sequences = wanted.sequences == 0 ? left : std::min(left, wanted.sequences);
  return std::unique_ptr<EvaluationText>(
      new EvaluationText(std::move(dataset), order, part, run.model().vocab()));
}

absl::Status EvaluationText::Read(int64_t i, absl::Span<int32_t> ids) const {
  const int64_t start = order_.Start(part_.first + i);
  dataset_->Read(start, ids);
  const auto bad =
      std::find_if(ids.begin(), ids.end(), [this](int32_t id) { return id < 0 || id >= vocab_; });
  if (bad == ids.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(dataset_->prefix(), ".bin: token ",
                                                 start + (bad - ids.begin()), " is ", *bad,
                                                 ", expected one of model.vocab = ", vocab_));
}

}  // namespace unipool
