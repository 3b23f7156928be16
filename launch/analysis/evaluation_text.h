// The text that a model is evaluated on: sequences of one part of a run's data, in the order that
// the run uses (validation and test: file order, unless data.order is MEGATRON or the data are a
// blend).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/blend.h"
#include "data/sample_order.h"
#include "data/sample_source.h"
#include "launch/config/corpus.h"
#include "launch/config/messages.h"

namespace unipool {

// Sequences [first, first + sequences) of a part; sequences = 0 means all from `first` on.
struct TextPart {
  Split split = Split::kValidation;
  int64_t first = 0;
  int64_t sequences = 0;
  const char* first_flag = "first";   // name of the flag that sets `first`, for errors
  int order_version = kOrderVersion;  // of the checkpoint (data/blend.h)
};

// Parses the value `name` of --`flag`: validation, test or train. Errors name the flag.
absl::StatusOr<Split> ParseSplit(const std::string& flag, const std::string& name);
const char* SplitName(Split split);

// Owns the open data. Immutable; any thread may read.
class EvaluationText {
 public:
  // Opens the data of `run`. part() has fewer sequences than `wanted` if the data end earlier.
  // INVALID_ARGUMENT for wanted.sequences = 0 with data.order MEGATRON or a blend, which do not
  // end, or if the part has no sequence from wanted.first on.
  static absl::StatusOr<std::unique_ptr<EvaluationText>> Open(const config::Run& run,
                                                              const TextPart& wanted);

  const TextPart& part() const { return part_; }
  // Reads sequence i of the part, 0 <= i < part().sequences, into `ids`, which has model.sequence +
  // 1 elements. INVALID_ARGUMENT names the file and an id outside the vocabulary.
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
