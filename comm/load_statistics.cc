#include "comm/load_statistics.h"

#include <glog/logging.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/copy.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
#include "runtime/ops/load_balance.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Divides by the sum; equal shares if nothing was counted.
void Normalize(absl::Span<double> shares) {
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  const double even = 1.0 / static_cast<double>(shares.size());
  for (double& share : shares) share = total > 0 ? share / total : even;
}

}  // namespace

LoadStatistics::LoadStatistics(std::vector<int> pool_of_layer, std::vector<int> experts_of_pool,
                               Device device)
    : pool_of_layer_(std::move(pool_of_layer)),
      experts_of_pool_(std::move(experts_of_pool)),
      device_(device) {}

absl::StatusOr<std::unique_ptr<LoadStatistics>> LoadStatistics::Create(
    std::vector<int> pool_of_layer, std::vector<int> experts_of_pool, Device device) {
  auto self = std::unique_ptr<LoadStatistics>(
      new LoadStatistics(std::move(pool_of_layer), std::move(experts_of_pool), device));
  int64_t size = 0;
  for (int layer = 0; layer < self->num_layers(); ++layer) {
    const int pool = self->pool_of_layer_[layer];
    const int last = static_cast<int>(self->first_layer_of_pool_.size()) - 1;
    CHECK(pool == last || pool == last + 1)
        << "layer " << layer << " uses pool " << pool << " after pool " << last;
    CHECK_LT(pool, self->num_pools()) << "pool of layer " << layer;
    if (pool != last) self->first_layer_of_pool_.push_back(layer);
    self->first_.push_back(size);
    size += self->experts_of_pool_[pool];
  }
  CHECK_EQ(static_cast<int>(self->first_layer_of_pool_.size()), self->num_pools());
  self->first_layer_of_pool_.push_back(self->num_layers());
  self->state_size_ = size + 1;  // and the count of unrouted tokens
  size += self->state_size_;
  ASSIGN_OR_RETURN(self->previous_, MirroredTensor::Create(device, DType::kInt64, size));
  ASSIGN_OR_RETURN(self->buffer_,
                   Buffer::Allocate(device, 3 * size * static_cast<int64_t>(sizeof(int64_t))));
  const Tensor all = Tensor::Of(static_cast<int64_t*>(self->buffer_.data()), {3 * size}, device);
  self->micro_ = all.Rows(0, size);
  self->current_ = all.Rows(size, 2 * size);
  self->previous_micro_ = all.Rows(2 * size, 3 * size);
  return self;
}

void LoadStatistics::FinishMicroBatch(Context& ctx, int64_t tokens) {
  if (tokens == 0 || num_layers() == 0) return;
  Compute(ctx, AccumulateCounts{.counts = micro_, .step = current_, .previous = previous_micro_});
  has_previous_micro_batch_ = true;
}

void LoadStatistics::FinishStep(Context& ctx, Communicator& world) {
  Profiler::Scope scope(ctx.profiler, "statistics.finish_step");
  Compute(ctx, Copy{.x = current_, .y = previous_.on_device()});
  DropStep(ctx);
  world.AllReduce(previous_.on_device(), ReduceOp::kSum, *ctx.stream);
  previous_.DownloadNow(*ctx.stream);
  has_previous_ = true;
}

void LoadStatistics::DropStep(Context& ctx) { Compute(ctx, Fill{.x = current_, .value = 0}); }

Tensor LoadStatistics::previous_micro_batch(int pool) const {
  CHECK(has_previous_micro_batch_)
      << "there is no previous micro-batch; check has_previous_micro_batch() first";
  const int first = first_layer_of_pool_[pool], layers = first_layer_of_pool_[pool + 1] - first;
  const int64_t experts = experts_of_pool_[pool];
  const Tensor all = previous_micro_.Rows(first_[first], first_[first] + layers * experts);
  return all.Reshape({layers, experts});
}

Tensor LoadStatistics::previous_on_device(int layer) const {
  CHECK(has_previous_) << "there is no previous step; check has_previous() first";
  return OfLayer(previous_.on_device(), layer);
}

absl::Span<const int64_t> LoadStatistics::previous(int layer) const {
  CHECK(has_previous_) << "there is no previous step; check has_previous() first";
  return absl::MakeConstSpan(previous_counts() + first_[layer], experts(layer));
}

void LoadStatistics::LayerShares(int layer, absl::Span<double> shares) const {
  const absl::Span<const int64_t> counts = previous(layer);
  CHECK_EQ(shares.size(), counts.size());
  std::copy(counts.begin(), counts.end(), shares.begin());
  Normalize(shares);
}

void LoadStatistics::PoolShares(int pool, absl::Span<double> shares) const {
  CHECK(has_previous_) << "there is no previous step; check has_previous() first";
  CHECK_EQ(static_cast<int>(shares.size()), experts_of_pool_[pool]);
  std::fill(shares.begin(), shares.end(), 0.0);
  for (int l = first_layer_of_pool_[pool]; l < first_layer_of_pool_[pool + 1]; ++l) {
    for (size_t e = 0; e < shares.size(); ++e) shares[e] += static_cast<double>(previous(l)[e]);
  }
  Normalize(shares);
}

absl::Span<const int64_t> LoadStatistics::previous_unrouted_choices(int layer) const {
  CHECK(has_previous_) << "there is no previous step; check has_previous() first";
  return step_unrouted_choices().subspan(static_cast<size_t>(first_[layer]),
                                         static_cast<size_t>(experts(layer)));
}

int64_t LoadStatistics::previous_load(int layer, int expert) const {
  return previous(layer)[expert] - previous_unrouted_choices(layer)[expert];
}

double LoadStatistics::Imbalance(int first_layer, int last_layer) const {
  int64_t largest = 0, total = 0;
  for (int e = 0; e < experts(first_layer); ++e) {
    int64_t load = 0;
    for (int l = first_layer; l < last_layer; ++l) load += previous_load(l, e);
    largest = std::max(largest, load);
    total += load;
  }
  if (total == 0) return 1;
  return static_cast<double>(largest) * experts(first_layer) / static_cast<double>(total);
}

double LoadStatistics::LayerImbalance() const {
  if (!has_previous_ || num_layers() == 0) return 0;
  double sum = 0;
  for (int l = 0; l < num_layers(); ++l) sum += Imbalance(l, l + 1);
  return sum / num_layers();
}

double LoadStatistics::PoolImbalance() const {
  if (!has_previous_ || num_pools() == 0) return 0;
  double sum = 0;
  for (int p = 0; p < num_pools(); ++p) {
    sum += Imbalance(first_layer_of_pool_[p], first_layer_of_pool_[p + 1]);
  }
  return sum / num_pools();
}

absl::Span<const int64_t> LoadStatistics::step_state() const {
  if (!has_previous_) return {};
  return absl::MakeConstSpan(previous_counts(), static_cast<size_t>(state_size()));
}

absl::Span<const int64_t> LoadStatistics::step_unrouted_choices() const {
  if (!has_previous_) return {};
  return absl::MakeConstSpan(previous_counts() + state_size(),
                             static_cast<size_t>(state_size() - 1));
}

absl::Span<const int64_t> LoadStatistics::micro_batch_state() {
  if (!has_previous_micro_batch_) return {};
  micro_batch_state_.resize(static_cast<size_t>(state_size()));
  ReadTensor(previous_micro_.Rows(0, state_size()), micro_batch_state_.data());
  return micro_batch_state_;
}

void LoadStatistics::Restore(const State& state) {
  const auto stream = Stream::Create(device_);
  const auto copy = [&](absl::Span<const int64_t> counts, const Tensor& to) {
    if (counts.empty()) return false;
    CHECK_EQ(static_cast<int64_t>(counts.size()), to.numel());
    CopyTensor(Tensor::Of(const_cast<int64_t*>(counts.data()), {to.numel()}), to, *stream);
    return true;
  };
  const std::vector<int64_t> zeros(static_cast<size_t>(micro_.numel()), 0);
  for (const Tensor& counts : {micro_, current_, previous_micro_, previous_.on_device()}) {
    copy(zeros, counts);
  }
  has_previous_micro_batch_ = copy(state.micro_batch, previous_micro_.Rows(0, state_size()));
  has_previous_ = copy(state.step, previous_.on_device().Rows(0, state_size()));
  copy(state.step_unrouted_choices,
       previous_.on_device().Rows(state_size(), previous_.on_device().numel()));
  previous_.DownloadNow(*stream);
}

Tensor LoadStatistics::OfLayer(const Tensor& counts, int layer) const {
  return counts.Rows(first_[layer], first_[layer] + experts(layer));
}

}  // namespace unipool
