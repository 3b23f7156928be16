// Splits a batch that needs more working memory than available into chunks of whole sequences.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace unipool {

// Returns the number of sequences per chunk such that a chunk of n sequences needs at most `limit`
// bytes, the chunks are nearly equal, and there are as few as possible; 1 if even one sequence
// exceeds the limit. `sequences` is at least 1. `bytes_of(n)` returns the bytes that a chunk of n
// sequences needs; its error is returned.
absl::StatusOr<int64_t> SequencesPerChunk(
    int64_t sequences, int64_t limit, absl::FunctionRef<absl::StatusOr<int64_t>(int64_t)> bytes_of);

// Calls `run(first, count)` for each chunk of `at_once` sequences in order; the last may be
// smaller.
void ForEachChunk(int64_t sequences, int64_t at_once,
                  absl::FunctionRef<void(int64_t first, int64_t count)> run);

}  // namespace unipool
