// Text that a model is looked at with: sequences of one part of a run's data, in the run's order of
// them (validation and test: file order, unless data.order is MEGATRON or the data are a blend).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/sample_order.h"
#include "data/sample_source.h"
#include "launch/config/corpus.h"

namespace unipool {

namespace config {
class Run;
}

// Sequences [first, first + sequences) of the part.
struct TextPart {
  Split split = Split::kValidation;
  int64_t first = 0;
  int64_t sequences = 0;
  const char* first_flag = "first";  // that says how many are left out
};

// The value of a flag, which errors name.
absl::StatusOr<Split> ParseSplit(const std::string& flag, const std::string& name);
const char* SplitName(Split split);

class EvaluationText {
 public:
  // Opens the data that `run` names; `wanted.sequences` = 0 takes all from `first` on, which
  // MEGATRON's order and a blend do not have; part() has fewer than wanted where no more are left.
  static absl::StatusOr<std::unique_ptr<EvaluationText>> Open(const config::Run& run,
                                                              const TextPart& wanted);

  const TextPart& part() const { return part_; }
  // model.sequence + 1 ids of sequence i of the part, 0 <= i < part().sequences. Errors name the
  // file and an id outside the vocabulary.
  absl::Status Read(int64_t i, absl::Span<int32_t> ids) const;

 private:
  EvaluationText(std::unique_ptr<Corpus> corpus, std::unique_ptr<SampleSource> source,
                 const TextPart& part, int64_t vocab);

  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<SampleSource> source_;
  TextPart part_;
  int64_t vocab_;
};

}  // namespace unipool
