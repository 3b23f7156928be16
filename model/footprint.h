// Sizes of a configuration, computed without running it: parameters by part, memory of a rank, and
// floating-point operations per token (model/method.md#parameter-count,
// model/method.md#flop-count).
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
  int64_t dense() const;  // total() - ffn; in an MoE: the replicated parameters
};

// In all functions below, `run` is resolved. A count above the largest int64_t is the largest
// int64_t.
ParameterCounts CountParameters(const config::Run& run);
// Parameters that one token uses: all but the experts to which it is not sent.
int64_t ActiveParameters(const config::Run& run);
// Parameters on rank `rank` of `ranks`.
int64_t RankParameters(const config::Run& run, int ranks, int rank);

// Floating-point operations of one token in the forward and the backward, which counts as twice the
// forward. A multiply-add counts as two operations:
//   6 * (attention, router, chosen experts' and output head's weights)
//   + 6 * layers * heads * head_dim * (sequence + 1)      causal scores and values
// Embedding look-ups, norms, softmaxes and recomputation are not counted.
double TrainingFlopsPerToken(const config::Run& run);

// Memory of one rank while training, in bytes.
struct MemoryPlan {
  int64_t values;   // float32
  int64_t weights;  // bfloat16 copies of the values; 0 if ops read the values
  int64_t gradients;
  int64_t moments;      // of AdamW; the dense ones are sharded over all ranks
  int64_t activations;  // peak of the arena if every rank receives an equal share of expert rows
  int64_t snapshot;     // host memory: the copy that an asynchronous checkpoint writes
  int64_t on_device() const;  // all but the snapshot
  int64_t total() const;
};
MemoryPlan PlanMemory(const config::Run& run, int ranks, int rank,
                      DeviceType device = DeviceType::kCpu);

}  // namespace unipool
