// Which shard each sample of a blend comes from. A table says it for the first `length` samples:
// the shard, and how many samples of that shard came before; after them it starts again, and each
// shard goes on where it was. So any sample is found in constant time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/index_cache.h"

namespace unipool {

// As numpy does it: weights / sum(weights), the sum added pairwise.
std::vector<double> NormalizeWeights(const std::vector<double>& weights);

// Samples that a shard of normalized weight w must have for a blend of `total`: half a percent more
// than its share (model/method.md#sample-order).
int64_t SamplesOfShard(int64_t total, double weight);

// model/method.md#sample-order: sample i comes from the shard with the largest w * max(i, 1) -
// taken, the lowest on ties. `weights` are normalized. `length` is below 2^32, shards below 2^16.
std::vector<uint16_t> GreedyBlend(const std::vector<double>& weights, int64_t length);

// `order: STATELESS`: a cycle that is repeated without end. Its length is the least of at most
// kLongestCycle at which every shard's share is whole (to one part in 10^9), or else kLongestCycle,
// shares rounded by largest remainder and at least one; within it shards go as in GreedyBlend.
constexpr int64_t kLongestCycle = 1 << 16;
std::vector<uint16_t> BlendCycle(const std::vector<double>& weights);

class Blend {
 public:
  struct Position {
    int64_t shard;
    int64_t sample;  // of that shard's order
  };

  // BlendCycle, in memory.
  static Blend Cycle(const std::vector<double>& weights);
  // GreedyBlend for `length` samples, kept in a file: 6 bytes a sample.
  static absl::StatusOr<Blend> Greedy(const std::vector<double>& weights, int64_t length,
                                      const std::string& prefix, const std::string& cache_folder);

  Position At(int64_t sample) const;

 private:
  explicit Blend(CachedBytes table);

  CachedBytes bytes_;
  int64_t length_;
  int64_t shards_;
  const int64_t* counts_;  // [shards] in the whole table
  const uint32_t* before_;
  const uint16_t* shard_;
};

}  // namespace unipool
