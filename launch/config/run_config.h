// From a textproto file and overrides to a checked config::Run: the one place with rules that span
// fields. Every error is one line that names file, line and column (or the override), the field and
// what was expected.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/run.pb.h"

namespace unipool {

inline constexpr int kMaxThreads = 1024;  // of a rank

// Parses `file` ("" = none), applies overrides like "model.layers=4" in order, checks and resolves.
absl::StatusOr<config::Run> LoadRunConfig(const std::string& file,
                                          const std::vector<std::string>& overrides);

// The same for a config that is already resolved, as a checkpoint's. `source` names it in errors.
absl::StatusOr<config::Run> OverrideRunConfig(config::Run run, const std::string& source,
                                              const std::vector<std::string>& overrides);

// The rules that need no number of ranks. `source` names the config in errors.
absl::Status CheckRunConfig(const config::Run& run, const std::string& source);

// The rules that need it.
absl::Status CheckRanks(const config::Run& run, int ranks);

// Gives every field a value. kv_heads, head_dim, ffn, layers_per_pool, decay_steps and warmup_steps
// get what they stand for; what depends on the machine (expert_parallel, micro_batch, threads) and
// router_c keep their 0. Doing it twice changes nothing. `run` has passed CheckRunConfig.
void ResolveDefaults(config::Run* run);

// Where NormRouter's c is to be estimated, puts the estimate into pool.router_c, so that what a run
// saves states the constant it was trained with. Takes up to a second. `run` is resolved.
void StateRouterConstant(config::Run* run);

// The textproto, one field a line; parses back to the same values.
std::string ToText(const config::Run& run);

}  // namespace unipool
