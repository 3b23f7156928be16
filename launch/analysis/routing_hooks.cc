#include "launch/analysis/routing_hooks.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "runtime/copy.h"

namespace unipool {
namespace {

// Random draws are numbered sequence * kPositions + position; no sequence is longer.
constexpr uint64_t kPositions = uint64_t{1} << 24;

RouteCounts EmptyCounts(const config::Run& run) {
  CHECK(run.model().ffn_kind() == config::Model::MOE);
  RouteCounts counts;
  counts.layers = static_cast<int>(run.model().layers());
  counts.pools = static_cast<int>(run.model().layers() / run.pool().layers_per_pool());
  counts.experts = static_cast<int>(run.pool().experts());
  counts.top_k = static_cast<int>(run.pool().top_k());
  counts.counts.resize(static_cast<size_t>(counts.layers) * counts.columns());
  return counts;
}

// The values of a tensor in host memory: the tensor itself, or a copy in `storage` if it is on a
// GPU.
template <typename T>
T* OnHost(const Tensor& tensor, std::vector<T>& storage) {
  if (tensor.device.type == DeviceType::kCpu) return tensor.as<T>();
  CHECK(tensor.dtype == DTypeOf<T>()) << tensor.ShapeString();
  storage.resize(static_cast<size_t>(tensor.numel()));
  ReadTensor(tensor, storage.data());
  return storage.data();
}

// Copies `storage` back to a tensor on a GPU; does nothing for a tensor in host memory.
template <typename T>
void ToDevice(std::vector<T>& storage, const Tensor& tensor, Stream& stream) {
  if (tensor.device.type == DeviceType::kCpu || tensor.empty()) return;
  CopyTensor(Tensor::Of(storage.data(), {tensor.dim(0), tensor.dim(1)}), tensor, stream);
  stream.Synchronize();
}

}  // namespace

RouteCounter::RouteCounter(const config::Run& run) : counts_(EmptyCounts(run)) {}

void RouteCounter::OnRouting(Context&, int layer, const Router::Saved& routing) {
  int64_t* row = counts_.counts.data() + static_cast<int64_t>(layer) * counts_.columns() +
                 counts_.first_column(layer);
  const int32_t* ids = OnHost(routing.ids, ids_);
  for (int64_t i = 0; i < routing.ids.numel(); ++i) ++row[ids[i]];
}

DistinctCounter::DistinctCounter(const config::Run& run) : shape_(EmptyCounts(run)) {
  histogram_.resize(static_cast<size_t>(shape_.layers) * shape_.top_k + 1);
}

void DistinctCounter::OnBatch(const TokenBatch& batch) {
  columns_.resize(batch.tokens.size() * shape_.layers * shape_.top_k);
}

void DistinctCounter::OnRouting(Context&, int layer, const Router::Saved& routing) {
  const int64_t top_k = shape_.top_k, width = shape_.layers * top_k;
  const int32_t* ids = OnHost(routing.ids, ids_);
  for (int64_t t = 0; t < routing.ids.dim(0); ++t) {
    int32_t* row = columns_.data() + t * width;
    for (int64_t j = 0; j < top_k; ++j) {
      row[layer * top_k + j] = ids[t * top_k + j] + shape_.first_column(layer);
    }
    if (layer != shape_.layers - 1) continue;
    std::sort(row, row + width);
    ++histogram_[std::unique(row, row + width) - row];
  }
}

absl::StatusOr<RandomRouteSettings::Gate> ParseGate(const std::string& name) {
  using Gate = RandomRouteSettings::Gate;
  for (const Gate gate : {Gate::kOriginal, Gate::kOwn, Gate::kOne}) {
    if (name == GateName(gate)) return gate;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--gate ", name, ": expected original, own or one"));
}

absl::StatusOr<RandomRouteSettings::Draw> ParseDraw(const std::string& name) {
  using Draw = RandomRouteSettings::Draw;
  for (const Draw draw : {Draw::kToken, Draw::kSequence}) {
    if (name == DrawName(draw)) return draw;
  }
  return absl::InvalidArgumentError(absl::StrCat("--draw ", name, ": expected token or sequence"));
}

const char* GateName(RandomRouteSettings::Gate gate) {
  if (gate == RandomRouteSettings::Gate::kOriginal) return "original";
  return gate == RandomRouteSettings::Gate::kOwn ? "own" : "one";
}

const char* DrawName(RandomRouteSettings::Draw draw) {
  return draw == RandomRouteSettings::Draw::kToken ? "token" : "sequence";
}

RandomRoutes::RandomRoutes(const RandomRouteSettings& settings, int layer,
                           std::vector<int32_t> experts)
    : settings_(settings),
      layer_(layer),
      experts_(std::move(experts)),
      rng_(settings.seed, StreamId(absl::StrCat("random routes of layer ", layer))) {}

void RandomRoutes::OnBatch(const TokenBatch& batch) {
  sequence_ids_ = batch.ids;
  sequence_ = batch.sequence;
}

void RandomRoutes::DrawExperts(uint64_t position, int64_t top_k) {
  remaining_ = experts_;
  drawn_.clear();
  for (int64_t j = 0; j < top_k; ++j) {
    const double u = rng_.Uniform(position * static_cast<uint64_t>(top_k) + j);
    const auto chosen =
        remaining_.begin() + static_cast<int64_t>(u * static_cast<double>(remaining_.size()));
    drawn_.push_back(*chosen);
    remaining_.erase(chosen);
  }
}

void RandomRoutes::OnRouting(Context& ctx, int layer, const Router::Saved& routing) {
  if (layer != layer_) return;
  const int64_t top_k = routing.ids.dim(1), all_experts = routing.scores.dim(1);
  CHECK_GE(static_cast<int64_t>(experts_.size()), top_k);
  const bool by_token = settings_.draw == RandomRouteSettings::Draw::kToken;
  int32_t* const ids = OnHost(routing.ids, ids_);
  float* const gates = OnHost(routing.gates, gates_);
  const float* const scores = OnHost(routing.scores, scores_);
  for (int64_t t = 0; t < routing.ids.dim(0); ++t) {
    const uint64_t position = by_token ? t % sequence_ : 0;
    DrawExperts(static_cast<uint64_t>(sequence_ids_[t / sequence_]) * kPositions + position, top_k);
    for (int64_t j = 0; j < top_k; ++j) {
      ids[t * top_k + j] = drawn_[j];
      float& gate = gates[t * top_k + j];
      if (settings_.gate == RandomRouteSettings::Gate::kOne) gate = 1;
      if (settings_.gate == RandomRouteSettings::Gate::kOwn) {
        gate = scores[t * all_experts + drawn_[j]];
      }
    }
  }
  ToDevice(ids_, routing.ids, *ctx.stream);
  ToDevice(gates_, routing.gates, *ctx.stream);
}

}  // namespace unipool
