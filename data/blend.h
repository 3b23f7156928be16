// Which shard each sample of a blend comes from. A table holds, for each of the first `length`
// samples, its shard and the number of earlier samples of that shard. After `length` samples the
// table repeats and each shard continues with its next sample, so that any sample is found in
// constant time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/index_cache.h"

namespace unipool {

// weights / sum(weights) with the bits of numpy, which sums pairwise.
std::vector<double> NormalizeWeights(const std::vector<double>& weights);

// Version of the order of a blend with `order: MEGATRON`, for runs that began with another one
// (model/method.md#sample-order). Version 1 shares samples by weights that are divided by their sum
// once, version 2 by weights that are divided by their sum once more, as Megatron-Core does: their
// last bits differ, and so do exact ties between shards.
constexpr int kOrderVersion = 2;

// The weights by which version `version` shares samples. `weights` are normalized.
std::vector<double> SharingWeights(const std::vector<double>& weights, int version);

// Samples to request from a shard of normalized weight `weight` for a blend of `total` samples: its
// share plus half a percent (model/method.md#sample-order).
int64_t SamplesOfShard(int64_t total, double weight);

// The shard of each of the first `length` samples (model/method.md#sample-order): sample i comes
// from the shard with the largest weight * max(i, 1) - samples so far, on ties from the lowest
// shard. `weights` are SharingWeights. `length` is below 2^32, the number of shards below 2^16.
std::vector<uint16_t> GreedyBlend(const std::vector<double>& weights, int64_t length);

// The blend of `order: STATELESS`: a cycle of shards that repeats forever. Its length is the
// smallest one up to kLongestCycle at which every shard's share is an integer (to one part in
// 10^9). If there is none, the length is kLongestCycle and shares are rounded by largest remainder,
// to at least 1. Within the cycle shards are chosen as in GreedyBlend.
constexpr int64_t kLongestCycle = 1 << 16;
std::vector<uint16_t> BlendCycle(const std::vector<double>& weights);

// The table of a blend. Any thread may read.
class Blend {
 public:
  struct Position {
    int64_t shard;
    int64_t sample;  // number in the order of that shard, over all its epochs
  };

  // BlendCycle, in memory.
  static Blend Cycle(const std::vector<double>& weights);
  // GreedyBlend for `length` samples, cached in a file PREFIX-HASH.order in `cache_folder` ("": in
  // the folder of `prefix`) that takes 6 bytes per sample. Errors as LoadOrBuild.
  static absl::StatusOr<Blend> Greedy(const std::vector<double>& weights, int64_t length,
                                      const std::string& prefix, const std::string& cache_folder);

  // `sample` is 0 or more; numbers from `length` on repeat the table.
  Position At(int64_t sample) const;

 private:
  explicit Blend(CachedBytes table);

  CachedBytes bytes_;
  int64_t length_;
  int64_t shards_;
  const int64_t* counts_;   // [shards] samples of each shard in the table
  const uint32_t* before_;  // [length] earlier samples of the same shard
  const uint16_t* shard_;   // [length]
};

}  // namespace unipool
