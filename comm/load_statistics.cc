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
  for (Counts* counts : {&micro_, &current_, &previous_micro_, &previous_}) {
    counts->resize(size + 1);
  }
}

Tensor LoadStatistics::counts(int layer) {
  return Tensor::Of(micro_.data() + first_[layer], {experts(layer)});
}

Tensor LoadStatistics::unrouted() { return Tensor::Of(&micro_.back(), {1}); }

void LoadStatistics::FinishMicroBatch() {
  const bool counted = std::any_of(micro_.begin(), micro_.end(), [](int64_t n) { return n != 0; });
  if (!counted) return;
  for (size_t i = 0; i < micro_.size(); ++i) current_[i] += micro_[i];
  previous_micro_.swap(micro_);
  std::fill(micro_.begin(), micro_.end(), 0);
  has_previous_micro_batch_ = true;
}

void LoadStatistics::FinishStep(Context& ctx, Communicator& world) {
  Profiler::Scope scope(ctx.profiler, "statistics.finish_step");
  previous_.swap(current_);
  std::fill(current_.begin(), current_.end(), 0);
  world.AllReduce(Tensor::Of(previous_.data(), {state_size()}), ReduceOp::kSum, *ctx.stream);
  ctx.stream->Synchronize();
  has_previous_ = true;
}

void LoadStatistics::DropStep() { std::fill(current_.begin(), current_.end(), 0); }

void LoadStatistics::MicroBatchShares(int layer, absl::Span<double> shares) const {
  SharesOfLayer(micro_, layer, shares);
}

void LoadStatistics::PreviousMicroBatchShares(int pool, absl::Span<double> shares) const {
  CHECK(has_previous_micro_batch_) << "no micro-batch is finished";
  SharesOfPool(previous_micro_, pool, shares);
}

void LoadStatistics::LayerShares(int layer, absl::Span<double> shares) const {
  CHECK(has_previous_) << "no step is finished";
  SharesOfLayer(previous_, layer, shares);
}

void LoadStatistics::PoolShares(int pool, absl::Span<double> shares) const {
  CHECK(has_previous_) << "no step is finished";
  SharesOfPool(previous_, pool, shares);
}

absl::Span<const int64_t> LoadStatistics::previous(int layer) const {
  CHECK(has_previous_) << "no step is finished";
  return OfLayer(previous_, layer);
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
      const int64_t count = OfPool(previous_, p, e);
      largest = std::max(largest, count);
      total += count;
    }
    sum += Imbalance(largest, total, experts_of_pool_[p]);
  }
  return sum / num_pools();
}

absl::Span<const int64_t> LoadStatistics::step_state() const {
  return has_previous_ ? absl::MakeSpan(previous_) : absl::Span<const int64_t>();
}

absl::Span<const int64_t> LoadStatistics::micro_batch_state() const {
  return has_previous_micro_batch_ ? absl::MakeSpan(previous_micro_) : absl::Span<const int64_t>();
}

void LoadStatistics::Restore(absl::Span<const int64_t> step_state,
                             absl::Span<const int64_t> micro_batch_state) {
  const auto restore = [this](absl::Span<const int64_t> state, Counts* counts) {
    if (state.empty()) return false;
    CHECK_EQ(static_cast<int64_t>(state.size()), state_size());
    std::copy(state.begin(), state.end(), counts->begin());
    return true;
  };
  std::fill(micro_.begin(), micro_.end(), 0);
  std::fill(current_.begin(), current_.end(), 0);
  has_previous_ = restore(step_state, &previous_);
  has_previous_micro_batch_ = restore(micro_batch_state, &previous_micro_);
}

absl::Span<const int64_t> LoadStatistics::OfLayer(const Counts& counts, int layer) const {
  return absl::MakeSpan(counts.data() + first_[layer], experts(layer));
}

int64_t LoadStatistics::OfPool(const Counts& counts, int pool, int expert) const {
  int64_t count = 0;
  for (int l = 0; l < num_layers(); ++l) {
    if (pool_of_layer_[l] == pool) count += counts[first_[l] + expert];
  }
  return count;
}

void LoadStatistics::SharesOfLayer(const Counts& counts, int layer,
                                   absl::Span<double> shares) const {
  const absl::Span<const int64_t> mine = OfLayer(counts, layer);
  CHECK_EQ(shares.size(), mine.size());
  std::copy(mine.begin(), mine.end(), shares.begin());
  Normalize(shares);
}

void LoadStatistics::SharesOfPool(const Counts& counts, int pool, absl::Span<double> shares) const {
  CHECK_EQ(static_cast<int>(shares.size()), experts_of_pool_[pool]);
  for (size_t e = 0; e < shares.size(); ++e) {
    shares[e] = static_cast<double>(OfPool(counts, pool, static_cast<int>(e)));
  }
  Normalize(shares);
}

}  // namespace unipool
