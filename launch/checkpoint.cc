#include "launch/checkpoint.h"

#include <vector>

#include "launch/checkpoint_folder.h"
#include "launch/checkpoint_manifest.h"
#include "launch/checkpoint_pieces.h"
#include "launch/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using config::Manifest;

// What a killed run left under this name is not part of what comes.
absl::Status MakeEmptyFolder(const std::string& path) {
  RETURN_IF_ERROR(RemoveTree(path));
  return MakeFolders(path);
}

}  // namespace

Manifest Describe(const TrainingState& state, const World& world) {
  Manifest manifest;
  manifest.set_format_version(kCheckpointVersion);
  manifest.set_step(state.step);
  manifest.set_validation_due(state.validation_due);
  *manifest.mutable_run() = state.run;
  manifest.set_ranks(world.size());
  manifest.set_expert_ranks(world.groups().expert().size());
  manifest.mutable_data()->set_next_step(state.step);
  manifest.mutable_random()->set_seed(state.run.seed());
  manifest.mutable_statistics();  // there, even where it has no counts yet
  for (const int64_t count : state.model.statistics().step_state()) {
    manifest.mutable_statistics()->add_counts(count);
  }
  manifest.set_router_c(state.model.router_c());
  for (const ExpertMap& map : state.model.maps()) {
    Manifest::PoolMap* pool = manifest.add_expert_map();
    for (int e = 0; e < map.experts(); ++e) pool->add_owners(map.owner(e));
  }
  return manifest;
}

void DescribeRank(const TrainingState& state, Manifest* part) {
  if (state.run.pool().statistics() != config::Pool::LOCAL) return;
  Manifest::Statistics* statistics = part->add_local_statistics();
  for (const int64_t count : state.model.statistics().micro_batch_state()) {
    statistics->add_counts(count);
  }
}

absl::StatusOr<std::string> SaveCheckpoint(const std::string& checkpoints,
                                           const TrainingState& state, const World& world) {
  const std::string temporary = UnfinishedPath(checkpoints, state.step);
  const auto cleaned = [&](absl::Status status) {
    if (world.is_first()) RemoveTree(temporary).IgnoreError();
    return status;
  };
  absl::Status status =
      world.Agree(world.is_first() ? MakeEmptyFolder(temporary) : absl::OkStatus());
  if (!status.ok()) return cleaned(status);

  absl::StatusOr<Manifest> written =
      WritePieces(temporary, world.rank(), PiecesOf(state.parameters, state.optimizer, world));
  status = world.Agree(written.status());
  if (!status.ok()) return cleaned(status);

  DescribeRank(state, &*written);
  const std::vector<std::string> parts = world.Gather(written->SerializeAsString());
  if (world.is_first()) {
    Manifest manifest = Describe(state, world);
    for (const std::string& part : parts) manifest.MergeFromString(part);
    status = WriteManifest(temporary, manifest);
    if (status.ok()) status = Publish(checkpoints, state.step);
  }
  status = world.Agree(status);
  if (!status.ok()) return cleaned(status);
  return CheckpointPath(checkpoints, state.step);
}

}  // namespace unipool
