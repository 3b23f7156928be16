#include "data/sample_source.h"

#include <glog/logging.h>

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "data/blend.h"
#include "data/megatron_order.h"
#include "runtime/status.h"

namespace unipool {
namespace {

class StatelessSource : public SampleSource {
 public:
  StatelessSource(const IndexedDataset& dataset, const SampleOrder& order)
      : dataset_(dataset), order_(order) {}

  int64_t samples_per_epoch() const override { return order_.samples_per_epoch(); }
  void Read(int64_t sample, absl::Span<int32_t> ids) const override {
    dataset_.Read(order_.Start(sample), ids);
  }
  TokenLocation Locate(int64_t sample, int64_t offset) const override {
    return {.dataset = &dataset_, .token = order_.Start(sample) + offset};
  }

 private:
  const IndexedDataset& dataset_;
  const SampleOrder order_;
};

// Each shard repeats separately, so the blend as a whole has no period.
class BlendedSource : public SampleSource {
 public:
  BlendedSource(Blend blend, std::vector<std::unique_ptr<SampleSource>> shards)
      : blend_(std::move(blend)), shards_(std::move(shards)) {}

  int64_t samples_per_epoch() const override { return std::numeric_limits<int64_t>::max(); }
  void Read(int64_t sample, absl::Span<int32_t> ids) const override {
    const Blend::Position position = blend_.At(sample);
    shards_[position.shard]->Read(position.sample, ids);
  }
  TokenLocation Locate(int64_t sample, int64_t offset) const override {
    const Blend::Position position = blend_.At(sample);
    return shards_[position.shard]->Locate(position.sample, offset);
  }

 private:
  const Blend blend_;
  const std::vector<std::unique_ptr<SampleSource>> shards_;
};

const char* PartName(Split part) {
  if (part == Split::kTrain) return "train";
  return part == Split::kValidation ? "validation" : "test";
}

absl::StatusOr<std::unique_ptr<SampleSource>> CreateShard(const IndexedDataset& dataset,
                                                          const SourceOptions& options,
                                                          int64_t shard, int64_t num_samples) {
  if (options.order == SourceOptions::Order::kMegatron) {
    ASSIGN_OR_RETURN(const SequenceRange range,
                     SplitSequences(dataset, options.split, options.part));
    const MegatronPart part{.range = range,
                            .sequence = options.sequence,
                            .num_samples = num_samples,
                            .seed = static_cast<uint32_t>(options.seed)};
    return MegatronOrder::Create(dataset, part, PartName(options.part), options.cache_folder);
  }
  ASSIGN_OR_RETURN(const TokenRange range, SplitRange(dataset, options.split, options.part));
  const absl::StatusOr<SampleOrder> order = SampleOrder::Create(
      range, options.sequence, options.seed, options.part == Split::kTrain, shard);
  if (!order.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(dataset.prefix(), ", ", PartName(options.part),
                                                   " part: ", order.status().message()));
  }
  return std::make_unique<StatelessSource>(dataset, *order);
}

absl::StatusOr<Blend> CreateBlend(const std::vector<const IndexedDataset*>& shards,
                                  const std::vector<double>& weights,
                                  const SourceOptions& options) {
  if (options.order == SourceOptions::Order::kStateless) return Blend::Cycle(weights);
  constexpr int64_t kMaxSamples = std::numeric_limits<uint32_t>::max();
  if (options.num_samples > kMaxSamples) {
    return absl::InvalidArgumentError(absl::StrCat("a blend of ", options.num_samples,
                                                   " samples; data.order = MEGATRON takes at most ",
                                                   kMaxSamples, ": use data.order = STATELESS"));
  }
  return Blend::Greedy(SharingWeights(weights, options.order_version), options.num_samples,
                       absl::StrCat(shards[0]->prefix(), ".", PartName(options.part), "-blend"),
                       options.cache_folder);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SampleSource>> CreateSampleSource(
    const std::vector<const IndexedDataset*>& shards, const SourceOptions& options) {
  CHECK(!shards.empty());
  CHECK_GE(options.num_samples, 1);
  ASSIGN_OR_RETURN(const SplitShares shares, ParseSplitShares(options.split));
  if (shares[static_cast<size_t>(options.part)] == 0) {
    return absl::InvalidArgumentError(absl::StrCat("data.split = \"", options.split, "\" has no ",
                                                   PartName(options.part),
                                                   " part; give that part a weight above 0"));
  }
  if (options.weights.empty()) {
    CHECK_EQ(shards.size(), 1u);
    return CreateShard(*shards[0], options, 0, options.num_samples);
  }
  CHECK_EQ(options.weights.size(), shards.size());
  const std::vector<double> weights = NormalizeWeights(options.weights);
  std::vector<std::unique_ptr<SampleSource>> sources;
  for (size_t i = 0; i < shards.size(); ++i) {
    const int64_t num_samples = SamplesOfShard(options.num_samples, weights[i]);
    ASSIGN_OR_RETURN(sources.emplace_back(),
                     CreateShard(*shards[i], options, static_cast<int64_t>(i), num_samples));
  }
  ASSIGN_OR_RETURN(Blend blend, CreateBlend(shards, weights, options));
  return std::make_unique<BlendedSource>(std::move(blend), std::move(sources));
}

}  // namespace unipool
