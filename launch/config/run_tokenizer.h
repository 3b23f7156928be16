// The tokenizer that a run's config names.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "data/tokenizer.h"

namespace unipool {

namespace config {
class Run;
}

// Null where data.tokenizer is GPT2 and its files are not given. INVALID_ARGUMENT where it has more
// ids than model.vocab, or a file is damaged.
absl::StatusOr<std::unique_ptr<Tokenizer>> OpenRunTokenizer(const config::Run& run);

}  // namespace unipool
