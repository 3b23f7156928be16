// Loads, checks and resolves the config of a run. Rules that involve several fields are here and
// nowhere else. Every error is one line:
//   FILE:LINE:COLUMN (or --set X=Y): FIELD: what was found; what to do
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/config/messages.h"

namespace unipool {

inline constexpr int kMaxThreads = 1024;  // of a rank

// Parses `file` ("" means no file), applies overrides such as "model.layers=4" in their order,
// checks the result and resolves it. Appends to `warnings` one line for each field that is set
// under a former name (renamed_fields.h); the caller logs them, on one rank. INVALID_ARGUMENT for
// the first error.
absl::StatusOr<config::Run> LoadRunConfig(const std::string& file,
                                          const std::vector<std::string>& overrides,
                                          std::vector<std::string>* warnings);

// The same with a resolved config, such as that of a checkpoint, in place of a file. Errors call it
// `source`.
absl::StatusOr<config::Run> OverrideRunConfig(config::Run run, const std::string& source,
                                              const std::vector<std::string>& overrides,
                                              std::vector<std::string>* warnings);

// Checks all rules that do not depend on the number of ranks. Errors call the config `source`.
absl::Status CheckRunConfig(const config::Run& run, const std::string& source);

// Checks the rules that depend on the number of ranks.
absl::Status CheckRanks(const config::Run& run, int ranks);

// With fewer experts, the default of pool.router is SOFTMAX.
inline constexpr int64_t kFewestNormExperts = 8;
// The value that model.init_std = 0 stands for.
float DefaultInitStd(int64_t hidden);

// Gives every field a value: its default, or for kv_heads, head_dim, ffn, init_std,
// layers_per_pool, decay_steps and warmup_steps the value that 0 (or -1) stands for. Fields whose 0
// stands for something that depends on the machine (expert_parallel, micro_batch, threads) and
// router_c keep it. `run` must have passed CheckRunConfig. A second call changes nothing.
void ResolveDefaults(config::Run* run);

// If NormRouter's constant c is to be estimated (pool.router_c = 0), stores the estimate in
// pool.router_c, so that the saved config contains the constant that the run is trained with. Takes
// up to one second. `run` must be resolved.
void StateRouterConstant(config::Run* run);

// The config as a textproto with one field per line, which parses to the same values.
std::string ToText(const config::Run& run);

}  // namespace unipool
