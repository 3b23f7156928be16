#include "data/blend.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Adds in the order of numpy.sum: up to 128 values in eight interleaved partial sums; a longer
// array is split into halves.
double PairwiseSum(absl::Span<const double> values) {
  constexpr size_t kColumns = 8, kBlock = 128;
  const size_t count = values.size();
  if (count < kColumns) return std::accumulate(values.begin(), values.end(), 0.0);
  if (count > kBlock) {
    const size_t half = count / 2 - count / 2 % kColumns;
    return PairwiseSum(values.subspan(0, half)) + PairwiseSum(values.subspan(half));
  }
  std::array<double, kColumns> r = {};
  std::copy_n(values.begin(), kColumns, r.begin());
  size_t i = kColumns;
  for (; i + kColumns <= count; i += kColumns) {
    for (size_t column = 0; column < kColumns; ++column) r[column] += values[i + column];
  }
  double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < count; ++i) sum += values[i];
  return sum;
}

// The rule of GreedyBlend; a shard that already supplied its max_samples is skipped.
std::vector<uint16_t> ChooseGreedily(const std::vector<double>& weights, int64_t length,
                                     const std::vector<double>& max_samples) {
  std::vector<double> taken(weights.size());
  std::vector<uint16_t> shards(length);
  for (int64_t i = 0; i < length; ++i) {
    const auto number = static_cast<double>(std::max<int64_t>(i, 1));
    size_t best = 0;
    double best_error = -HUGE_VAL;
    for (size_t s = 0; s < weights.size(); ++s) {
      const double error = taken[s] < max_samples[s] ? weights[s] * number - taken[s] : -HUGE_VAL;
      if (error > best_error) {
        best_error = error;
        best = s;
      }
    }
    shards[i] = static_cast<uint16_t>(best);
    taken[best] += 1;
  }
  return shards;
}

bool AllWhole(const std::vector<double>& weights, int64_t length) {
  return std::all_of(weights.begin(), weights.end(), [length](double weight) {
    const double share = weight * static_cast<double>(length);
    return std::abs(share - std::nearbyint(share)) <= 1e-9 * share;
  });
}

// Integer shares with the sum `length`, by largest remainder; on ties the lowest shard is first.
std::vector<double> RoundShares(const std::vector<double>& weights, int64_t length) {
  std::vector<double> shares(weights.size());
  std::vector<size_t> by_remainder(weights.size());
  std::iota(by_remainder.begin(), by_remainder.end(), size_t{0});
  const auto exact = [&](size_t s) { return weights[s] * static_cast<double>(length); };
  for (size_t s = 0; s < weights.size(); ++s) shares[s] = std::max(1.0, std::floor(exact(s)));
  std::stable_sort(by_remainder.begin(), by_remainder.end(),
                   [&](size_t a, size_t b) { return exact(a) - shares[a] > exact(b) - shares[b]; });
  auto missing = length - static_cast<int64_t>(std::accumulate(shares.begin(), shares.end(), 0.0));
  for (size_t i = 0; missing > 0; i = (i + 1) % by_remainder.size(), --missing) {
    shares[by_remainder[i]] += 1;
  }
  // Shares raised to 1 can make the sum too large: the largest shares give up the excess.
  for (; missing < 0; ++missing) *std::max_element(shares.begin(), shares.end()) -= 1;
  return shares;
}

// The payload "blend" of an order file (data/README.md#cache).
std::vector<uint8_t> Serialize(const std::vector<uint16_t>& shard, int64_t num_shards) {
  const auto length = static_cast<int64_t>(shard.size());
  std::vector<uint8_t> bytes(8 * (2 + num_shards) + 6 * length);
  auto* numbers = reinterpret_cast<int64_t*>(bytes.data());
  numbers[0] = length;
  numbers[1] = num_shards;
  int64_t* counts = numbers + 2;
  auto* before = reinterpret_cast<uint32_t*>(counts + num_shards);
  for (int64_t i = 0; i < length; ++i) before[i] = static_cast<uint32_t>(counts[shard[i]]++);
  std::memcpy(before + length, shard.data(), 2 * length);
  return bytes;
}

}  // namespace

std::vector<double> NormalizeWeights(const std::vector<double>& weights) {
  const double sum = PairwiseSum(weights);
  std::vector<double> normalized = weights;
  for (double& weight : normalized) weight /= sum;
  return normalized;
}

std::vector<double> SharingWeights(const std::vector<double>& weights, int version) {
  return version == 1 ? weights : NormalizeWeights(weights);
}

int64_t SamplesOfShard(int64_t total, double weight) {
  const double share = std::ceil(static_cast<double>(total) * weight);
  return static_cast<int64_t>(std::ceil(share * (1 + 0.005)));
}

std::vector<uint16_t> GreedyBlend(const std::vector<double>& weights, int64_t length) {
  return ChooseGreedily(weights, length, std::vector<double>(weights.size(), HUGE_VAL));
}

std::vector<uint16_t> BlendCycle(const std::vector<double>& weights) {
  CHECK_LT(static_cast<int64_t>(weights.size()), kLongestCycle);
  auto length = static_cast<int64_t>(weights.size());
  while (length < kLongestCycle && !AllWhole(weights, length)) ++length;
  const std::vector<double> shares = RoundShares(weights, length);
  std::vector<double> rounded = shares;
  for (double& weight : rounded) weight /= static_cast<double>(length);
  return ChooseGreedily(rounded, length, shares);
}

Blend::Blend(CachedBytes table) : bytes_(std::move(table)) {
  const auto* numbers = reinterpret_cast<const int64_t*>(bytes_.data());
  length_ = numbers[0];
  shards_ = numbers[1];
  counts_ = numbers + 2;
  before_ = reinterpret_cast<const uint32_t*>(counts_ + shards_);
  shard_ = reinterpret_cast<const uint16_t*>(before_ + length_);
}

Blend Blend::Cycle(const std::vector<double>& weights) {
  return Blend(CachedBytes(Serialize(BlendCycle(weights), static_cast<int64_t>(weights.size()))));
}

absl::StatusOr<Blend> Blend::Greedy(const std::vector<double>& weights, int64_t length,
                                    const std::string& prefix, const std::string& cache_folder) {
  const CacheEntry entry{.prefix = prefix,
                         .folder = cache_folder,
                         .key = absl::StrCat("blend 1\nsamples ", length, "\nweights ",
                                             absl::StrJoin(weights, " ",
                                                           [](std::string* out, double weight) {
                                                             absl::StrAppendFormat(out, "%a",
                                                                                   weight);
                                                           }),
                                             "\n")};
  ASSIGN_OR_RETURN(
      CachedBytes table, LoadOrBuild(entry, [&]() -> absl::StatusOr<std::vector<uint8_t>> {
        return Serialize(GreedyBlend(weights, length), static_cast<int64_t>(weights.size()));
      }));
  return Blend(std::move(table));
}

Blend::Position Blend::At(int64_t sample) const {
  bytes_.CountRead();
  const int64_t at = sample % length_, shard = shard_[at];
  return {.shard = shard, .sample = sample / length_ * counts_[shard] + before_[at]};
}

}  // namespace unipool
