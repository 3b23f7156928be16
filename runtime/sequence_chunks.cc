#include "runtime/sequence_chunks.h"

#include <algorithm>

#include "runtime/status.h"

namespace unipool {

absl::StatusOr<int64_t> SequencesPerChunk(
    int64_t sequences, int64_t limit,
    absl::FunctionRef<absl::StatusOr<int64_t>(int64_t)> bytes_of) {
  int64_t max_sequences = sequences;
  while (max_sequences > 1) {
    ASSIGN_OR_RETURN(const int64_t bytes, bytes_of(max_sequences));
    if (bytes <= limit) break;
    const double share = static_cast<double>(limit) / static_cast<double>(bytes);
    const auto fit = static_cast<int64_t>(static_cast<double>(max_sequences) * share);
    max_sequences = std::clamp<int64_t>(fit, 1, max_sequences - 1);
  }
  const int64_t chunks = (sequences + max_sequences - 1) / max_sequences;
  return (sequences + chunks - 1) / chunks;
}

void ForEachChunk(int64_t sequences, int64_t at_once,
                  absl::FunctionRef<void(int64_t first, int64_t count)> run) {
  for (int64_t first = 0; first < sequences; first += at_once) {
    run(first, std::min(at_once, sequences - first));
  }
}

}  // namespace unipool
