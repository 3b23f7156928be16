// What a configuration comes to before anything is run: parameters by part, memory of a rank, and
// floating-point operations of a token. Formulas: model/method.md#parameter-count and the README.
#pragma once

#include <cstdint>

#include "runtime/device.h"

namespace unipool {

namespace config {
class Run;
}

struct ParameterCounts {
  int64_t embedding = 0;
  int64_t head = 0;
  int64_t attention = 0;
  int64_t norms = 0;
  int64_t ffn = 0;  // all experts of all pools, or all dense feed-forward networks
  int64_t routers = 0;
  int64_t router_scales = 0;

  int64_t total() const;
  int64_t dense() const { return total() - ffn; }  // of an MoE: what is replicated
};

ParameterCounts CountParameters(const config::Run& run);  // resolved
// Parameters that one token meets: everything but the experts that it is not sent to.
int64_t ActiveParameters(const config::Run& run);
// Parameters on rank `rank` of `ranks`.
int64_t RankParameters(const config::Run& run, int ranks, int rank);

// Multiply-adds counted as two, forward and backward (twice the forward), of one token:
//   6 * (attention, router, chosen experts' and output head's weights)
//   + 6 * layers * heads * head_dim * (sequence + 1)      causal scores and values
// Embedding look-ups, norms, softmaxes and recomputation are not counted.
double TrainingFlopsPerToken(const config::Run& run);

// Bytes of one rank while training.
struct MemoryPlan {
  int64_t values;   // float32
  int64_t weights;  // their copies in bfloat16; 0 where ops read the values
  int64_t gradients;
  int64_t moments;      // AdamW's; dense ones sharded over all ranks
  int64_t activations;  // the arena's peak, with the rank's even share of expert rows
  int64_t snapshot;     // the copy that is written while training goes on, in the host's memory
  int64_t on_device() const { return values + weights + gradients + moments + activations; }
  int64_t total() const { return on_device() + snapshot; }
};
MemoryPlan PlanMemory(const config::Run& run, int ranks, int rank,
                      DeviceType device = DeviceType::kCpu);

}  // namespace unipool
