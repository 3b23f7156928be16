#include "data/prepare/bigram.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "data/sample_order.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// The table of pair counts for this vocabulary takes 512 MiB.
constexpr int64_t kMaxVocab = 8192;
constexpr int64_t kBlock = 1 << 20;

// Calls visit(previous, token) for each pair of adjacent tokens in the range.
template <typename Visit>
absl::Status ForEachPair(const IndexedDataset& dataset, TokenRange range, int64_t vocab,
                         Visit visit) {
  std::vector<int32_t> block(kBlock);
  int32_t before = -1;
  for (int64_t begin = range.begin; begin < range.end; begin += kBlock) {
    const int64_t count = std::min(kBlock, range.end - begin);
    dataset.Read(begin, absl::MakeSpan(block.data(), count));
    for (int64_t i = 0; i < count; ++i) {
      const int32_t token = block[i];
      if (token < 0 || token >= vocab) {
        return absl::InvalidArgumentError(absl::StrCat(
            dataset.prefix(), ".bin: token ", begin + i, " has id ", dataset.IdAt(begin + i),
            ", expected 0 to ", vocab - 1, "; pass the vocabulary of the data's tokenizer"));
      }
      if (before >= 0) visit(before, token);
      before = token;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenRange> Part(const IndexedDataset& dataset, const std::string& split, Split part,
                                absl::string_view name) {
  ASSIGN_OR_RETURN(const TokenRange range, SplitRange(dataset, split, part));
  if (range.end - range.begin >= 2) return range;
  return absl::InvalidArgumentError(absl::StrCat(
      dataset.prefix(), ": the ", name, " part of split \"", split, "\" has ",
      range.end - range.begin, " tokens, but needs 2 or more; add text or change the split"));
}

}  // namespace

absl::StatusOr<BigramReport> BigramLoss(const IndexedDataset& dataset, const std::string& split,
                                        int64_t vocab, int64_t tokens) {
  if (vocab <= 0 || vocab > kMaxVocab) {
    return absl::InvalidArgumentError(
        absl::StrCat("a vocabulary of ", vocab, "; the bigram baseline takes 1 to ", kMaxVocab));
  }
  ASSIGN_OR_RETURN(const TokenRange train, Part(dataset, split, Split::kTrain, "training"));
  ASSIGN_OR_RETURN(TokenRange validation, Part(dataset, split, Split::kValidation, "validation"));
  if (tokens > 0) validation.end = std::min(validation.end, validation.begin + tokens + 1);
  std::vector<int64_t> pairs(vocab * vocab), firsts(vocab);
  RETURN_IF_ERROR(ForEachPair(dataset, train, vocab, [&](int32_t before, int32_t token) {
    ++pairs[before * vocab + token];
    ++firsts[before];
  }));
  double sum = 0;
  RETURN_IF_ERROR(ForEachPair(dataset, validation, vocab, [&](int32_t before, int32_t token) {
    sum -= std::log(static_cast<double>(pairs[before * vocab + token] + 1) /
                    static_cast<double>(firsts[before] + vocab));
  }));
  const int64_t predicted = validation.end - validation.begin - 1;
  return BigramReport{.train_tokens = train.end - train.begin,
                      .validation_tokens = predicted,
                      .loss = sum / static_cast<double>(predicted)};
}

}  // namespace unipool
