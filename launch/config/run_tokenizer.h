// Opens the tokenizer of a run's config.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "data/tokenizer.h"
#include "launch/config/messages.h"

namespace unipool {

// Returns null if data.tokenizer is GPT2 and its files are not set. INVALID_ARGUMENT if the
// tokenizer has more ids than model.vocab, or if a file is damaged.
absl::StatusOr<std::unique_ptr<Tokenizer>> OpenRunTokenizer(const config::Run& run);

}  // namespace unipool
