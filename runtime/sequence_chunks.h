// A batch that wants more working memory than there is, taken in chunks of whole sequences.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace unipool {

// How many of `sequences` (at least 1) a chunk takes, so that chunks are about equal and as few as
// `limit` allows, or single sequences where not even one keeps to it. `bytes_of` says what a chunk
// of so many sequences wants; its error is returned.
absl::StatusOr<int64_t> SequencesAtOnce(
    int64_t sequences, int64_t limit, absl::FunctionRef<absl::StatusOr<int64_t>(int64_t)> bytes_of);

// Calls `run` with the first sequence and the number of each chunk, of which the last may be
// smaller than `at_once`.
void ForEachChunk(int64_t sequences, int64_t at_once,
                  absl::FunctionRef<void(int64_t first, int64_t count)> run);

}  // namespace unipool
