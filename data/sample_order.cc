#include "data/sample_order.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int kRounds = 8;

// The finalizer of MurmurHash3: every input bit affects every output bit.
uint64_t Mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
}

// A permutation of [0, 4^half_bits): each round of a Feistel network is invertible for any round
// function.
uint64_t Feistel(uint64_t x, int half_bits, uint64_t key) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = x >> half_bits, right = x & mask;
  for (int round = 0; round < kRounds; ++round) {
    key = Mix(key + 0x9e3779b97f4a7c15u);
    const uint64_t next = left ^ (Mix(right ^ key) & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

int64_t PermuteIndex(int64_t i, int64_t size, uint64_t key) {
  CHECK(i >= 0 && i < size) << i << " of " << size;
  const auto count = static_cast<uint64_t>(size);
  const int half_bits = std::max(1, static_cast<int>(std::bit_width(count - 1) + 1) / 2);
  // Cycle walking: permute again until the value is below `size`. The domain is less than four
  // times as large, so this takes few steps.
  auto x = static_cast<uint64_t>(i);
  do {
    x = Feistel(x, half_bits, key);
  } while (x >= count);
  return static_cast<int64_t>(x);
}

absl::StatusOr<SplitShares> ParseSplitShares(const std::string& weights) {
  const auto error = [&weights] {
    return absl::InvalidArgumentError(
        absl::StrCat("split \"", weights, "\": expected ", kSplitWanted));
  };
  const std::vector<std::string> texts = absl::StrSplit(weights, ',');
  SplitShares shares = {};
  if (texts.size() > shares.size()) return error();
  double sum = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (!absl::SimpleAtod(texts[i], &shares[i])) return error();
    if (!std::isfinite(shares[i]) || shares[i] < 0) return error();
    sum += shares[i];
  }
  if (!(sum > 0) || !std::isfinite(sum)) return error();
  for (double& share : shares) share /= sum;
  return shares;
}

absl::StatusOr<SequenceRange> SplitSequences(const IndexedDataset& dataset,
                                             const std::string& weights, Split split) {
  ASSIGN_OR_RETURN(const SplitShares shares, ParseSplitShares(weights));
  const int64_t sequences = dataset.num_sequences();
  std::array<int64_t, kSplitParts + 1> bounds = {};
  double cumulative = 0;
  for (size_t part = 0; part < kSplitParts; ++part) {
    cumulative += shares[part];
    // nearbyint rounds halves to even, as Python's round does.
    const double bound = std::nearbyint(cumulative * static_cast<double>(sequences));
    bounds[part + 1] = std::min(static_cast<int64_t>(bound), sequences);
  }
  bounds[kSplitParts] = sequences;
  const auto part = static_cast<size_t>(split);
  return SequenceRange{.begin = bounds[part], .end = bounds[part + 1]};
}

absl::StatusOr<TokenRange> SplitRange(const IndexedDataset& dataset, const std::string& weights,
                                      Split split) {
  ASSIGN_OR_RETURN(const SequenceRange range, SplitSequences(dataset, weights, split));
  return TokenRange{.begin = dataset.SequenceStart(range.begin),
                    .end = dataset.SequenceStart(range.end)};
}

SampleOrder::SampleOrder(TokenRange range, int64_t sequence, Rng keys, bool shuffle,
                         int64_t samples)
    : range_(range), sequence_(sequence), keys_(keys), shuffle_(shuffle), samples_(samples) {}

absl::StatusOr<SampleOrder> SampleOrder::Create(TokenRange range, int64_t sequence, uint64_t seed,
                                                bool shuffle, int64_t shard) {
  if (sequence <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a sequence of ", sequence, " tokens; it must have at least 1"));
  }
  const int64_t tokens = range.end - range.begin;
  CHECK_GE(tokens, 0) << range.begin << " to " << range.end;
  if (tokens <= sequence) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens ", range.begin, " to ", range.end, " of the data are ", tokens,
                     ", fewer than one sample of ", sequence,
                     " + 1; add text, reduce model.sequence or change data.split"));
  }
  const Rng keys(seed, StreamId("data.order") + static_cast<uint64_t>(shard));
  return SampleOrder(range, sequence, keys, shuffle, (tokens - 1) / sequence);
}

int64_t SampleOrder::Start(int64_t sample) const {
  CHECK_GE(sample, 0);
  int64_t in_epoch = sample % samples_;
  if (shuffle_) {
    const auto epoch = static_cast<uint64_t>(sample / samples_);
    in_epoch = PermuteIndex(in_epoch, samples_, keys_.Word64(epoch));
  }
  return range_.begin + in_epoch * sequence_;
}

}  // namespace unipool
