#include "launch/checkpoint/checkpoint.h"

#include <algorithm>

#include "configs/checkpoint.pb.h"
#include "launch/checkpoint/manifest.h"
#include "launch/world/version.h"

namespace unipool {
namespace {

config::Manifest::Divergence Describe(const DivergenceState& state) {
  config::Manifest::Divergence divergence;
  divergence.mutable_losses()->Add(state.losses.begin(), state.losses.end());
  divergence.mutable_norms()->Add(state.norms.begin(), state.norms.end());
  divergence.set_skipped_in_a_row(state.skipped_in_a_row);
  divergence.set_skipped(state.skipped);
  divergence.set_rewinds(state.rewinds);
  return divergence;
}

config::Manifest::Dataset Describe(const DatasetIdentity& identity) {
  config::Manifest::Dataset dataset;
  dataset.set_prefix(identity.prefix);
  dataset.set_documents(identity.documents);
  dataset.set_tokens(identity.tokens);
  dataset.set_idx_xxh3_128(identity.index_hash);
  dataset.set_bin_sample_xxh3_128(identity.token_sample_hash);
  return dataset;
}

}  // namespace

config::Manifest Describe(const TrainingState& state, const World& world) {
  config::Manifest manifest;
  manifest.set_format_version(kCheckpointVersion);
  manifest.set_program(VersionLine());
  manifest.set_step(state.step);
  manifest.set_validation_due(state.validation_due);
  *manifest.mutable_run() = state.run;
  manifest.set_ranks(world.size());
  manifest.set_expert_ranks(world.groups().expert().size());
  manifest.mutable_data()->set_next_step(state.step);
  manifest.mutable_data()->set_rewound_steps(state.rewound_steps);
  manifest.mutable_data()->set_order_version(state.order_version);
  for (const ConfigChange& change : state.changes) {
    config::Manifest::Change& saved = *manifest.add_changes();
    saved.set_step(change.step);
    saved.set_field(change.field);
    saved.set_former(change.former);
    saved.set_value(change.value);
  }
  for (const DatasetIdentity& dataset : state.datasets) {
    *manifest.mutable_data()->add_datasets() = Describe(dataset);
  }
  *manifest.mutable_divergence() = Describe(state.divergence);
  manifest.mutable_random()->set_seed(state.run.seed());
  manifest.mutable_statistics();  // present even if there are no counts yet
  const LoadStatistics& statistics = state.model.statistics();
  for (const int64_t count : statistics.step_state()) {
    manifest.mutable_statistics()->add_counts(count);
  }
  const absl::Span<const int64_t> unrouted = statistics.step_unrouted_choices();
  const bool any = std::any_of(unrouted.begin(), unrouted.end(), [](int64_t n) { return n != 0; });
  for (const int64_t count : any ? unrouted : absl::Span<const int64_t>()) {
    manifest.mutable_statistics()->add_unrouted_choices(count);
  }
  manifest.set_router_c(state.model.router_c());
  for (const ExpertMap& map : state.model.maps()) {
    config::Manifest::PoolMap* pool = manifest.add_expert_map();
    for (int e = 0; e < map.experts(); ++e) pool->add_owners(map.owner(e));
  }
  return manifest;
}

void DescribeRank(const TrainingState& state, config::Manifest* part) {
  if (state.run.pool().statistics() != config::Pool::LOCAL) return;
  config::Manifest::Statistics* statistics = part->add_local_statistics();
  for (const int64_t count : state.model.statistics().micro_batch_state()) {
    statistics->add_counts(count);
  }
}

}  // namespace unipool
