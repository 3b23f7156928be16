#include "comm/load_statistics.h"

#include <glog/logging.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace unipool {
namespace {

// Largest / mean; 1 where nothing was counted.
double Imbalance(int64_t largest, int64_t total, int experts) {
  if (total == 0) return 1;
  return static_cast<double>(largest) * experts / static_cast<double>(total);
}

// Divides by the sum; even shares where nothing was counted.
void Normalize(absl::Span<double> shares) {
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  const double even = 1.0 / static_cast<double>(shares.size());
  for (double& share : shares) share = total > 0 ? share / total : even;
}

}  // namespace

LoadStatistics::LoadStatistics(std::vector<int> pool_of_layer, std::vector<int> experts_of_pool)
    : pool_of_layer_(std::move(pool_of_layer)), experts_of_pool_(std::move(experts_of_pool)) {
  int64_t size = 0;
  for (const int pool : pool_of_layer_) {
    CHECK(0 <= pool && pool < num_pools()) << "pool " << pool << " of " << num_pools();
    first_.push_back(size);
    size += experts_of_pool_[pool];
  }
  current_.resize(size + 1);
  previous_.resize(size + 1);
}

Tensor LoadStatistics::counts(int layer) {
  return Tensor::Of(current_.data() + first_[layer], {experts(layer)});
}

Tensor LoadStatistics::unrouted() { return Tensor::Of(&current_.back(), {1}); }

void LoadStatistics::FinishStep(Context& ctx, Communicator& world) {
  Profiler::Scope scope(ctx.profiler, "statistics.finish_step");
  std::copy(current_.begin(), current_.end(), previous_.begin());
  std::fill(current_.begin(), current_.end(), 0);
  world.AllReduce(Tensor::Of(previous_.data(), {static_cast<int64_t>(previous_.size())}),
                  ReduceOp::kSum, *ctx.stream);
  ctx.stream->Synchronize();
  has_previous_ = true;
}

absl::Span<const int64_t> LoadStatistics::previous(int layer) const {
  CHECK(has_previous_) << "no step is finished";
  return absl::MakeSpan(previous_.data() + first_[layer], experts(layer));
}

void LoadStatistics::LayerShares(int layer, absl::Span<double> shares) const {
  const absl::Span<const int64_t> counts = previous(layer);
  CHECK_EQ(shares.size(), counts.size());
  std::copy(counts.begin(), counts.end(), shares.begin());
  Normalize(shares);
}

void LoadStatistics::PoolShares(int pool, absl::Span<double> shares) const {
  CHECK_EQ(static_cast<int>(shares.size()), experts_of_pool_[pool]);
  CHECK(has_previous_) << "no step is finished";
  for (int e = 0; e < experts_of_pool_[pool]; ++e) {
    shares[e] = static_cast<double>(PoolCount(pool, e));
  }
  Normalize(shares);
}

double LoadStatistics::LayerImbalance() const {
  if (!has_previous_ || num_layers() == 0) return 0;
  double sum = 0;
  for (int l = 0; l < num_layers(); ++l) {
    const absl::Span<const int64_t> counts = previous(l);
    sum += Imbalance(*std::max_element(counts.begin(), counts.end()),
                     std::accumulate(counts.begin(), counts.end(), int64_t{0}), experts(l));
  }
  return sum / num_layers();
}

double LoadStatistics::PoolImbalance() const {
  if (!has_previous_ || num_pools() == 0) return 0;
  double sum = 0;
  for (int p = 0; p < num_pools(); ++p) {
    int64_t largest = 0, total = 0;
    for (int e = 0; e < experts_of_pool_[p]; ++e) {
      const int64_t count = PoolCount(p, e);
      largest = std::max(largest, count);
      total += count;
    }
    sum += Imbalance(largest, total, experts_of_pool_[p]);
  }
  return sum / num_pools();
}

int64_t LoadStatistics::PoolCount(int pool, int expert) const {
  int64_t count = 0;
  for (int l = 0; l < num_layers(); ++l) {
    if (pool_of_layer_[l] == pool) count += previous_[first_[l] + expert];
  }
  return count;
}

}  // namespace unipool
