// Measures the rates of the CPU's matrix ops at the sizes of a training step with a small pool, on
// OMP_NUM_THREADS threads. The counter `share` is the rate divided by that of a large sgemm of the
// BLAS library in the same process.
#include <benchmark/benchmark.h>
#include <omp.h>

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "runtime/arena.h"
#include "runtime/blas.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/gemm.h"
#include "runtime/ops/grouped_gemm.h"
#include "runtime/ops/route_tokens.h"
#include "runtime/ops/swiglu.h"
#include "runtime/rng.h"

namespace unipool {
namespace {

constexpr int64_t kTokens = 4096, kHidden = 256, kFfn = 1024, kVocab = 8192, kExperts = 48;
constexpr int64_t kHeads = 4, kHeadDim = 64;

Tensor Random(Arena& arena, std::initializer_list<int64_t> dims) {
  const Tensor tensor = arena.New(dims);
  Rng(1, StreamId("bench")).FillUniform(-1.0f, 1.0f, tensor);
  return tensor;
}

Arena NewArena() { return Arena::Create(Device{}, int64_t{4} << 30).value(); }

void Measure(benchmark::State& state, double flops, double sgemm_flops,
             const std::function<void()>& run) {
  run();
  for (auto _ : state) run();
  using Counter = benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(flops / 1e9, Counter::kIsIterationInvariantRate);
  state.counters["share"] = Counter(flops / sgemm_flops, Counter::kIsIterationInvariantRate);
}

enum class Pass { kForward, kBackward };

// Which of the three products of a linear layer y = x W^T is measured: y, dx = dy W, or
// dW += dy^T x.
enum class Product { kForward, kInputGradient, kWeightGradient };

struct GemmCase {
  const char* name;
  int64_t m, n, k;
  Product product;
};

constexpr GemmCase kGemms[] = {
    {"gemm/qkv", kTokens, 768, kHidden, Product::kForward},
    {"gemm/qkv_dx", kTokens, kHidden, 768, Product::kInputGradient},
    {"gemm/qkv_dw", 768, kHidden, kTokens, Product::kWeightGradient},
    {"gemm/o", kTokens, kHidden, kHidden, Product::kForward},
    {"gemm/o_dw", kHidden, kHidden, kTokens, Product::kWeightGradient},
    {"gemm/router", kTokens, kExperts, kHidden, Product::kForward},
    {"gemm/lm_head_512", 512, kVocab, kHidden, Product::kForward},
    {"gemm/lm_head_1024", 1024, kVocab, kHidden, Product::kForward},
    {"gemm/lm_head_dx", 1024, kHidden, kVocab, Product::kInputGradient},
    {"gemm/lm_head_dw", kVocab, kHidden, 1024, Product::kWeightGradient},
};

void BenchGemm(benchmark::State& state, const GemmCase& gemm, double sgemm_flops) {
  Arena arena = NewArena();
  const bool transpose_a = gemm.product == Product::kWeightGradient;
  const bool transpose_b = gemm.product == Product::kForward;
  const Gemm op{
      .a = transpose_a ? Random(arena, {gemm.k, gemm.m}) : Random(arena, {gemm.m, gemm.k}),
      .b = transpose_b ? Random(arena, {gemm.n, gemm.k}) : Random(arena, {gemm.k, gemm.n}),
      .c = Random(arena, {gemm.m, gemm.n}),
      .transpose_a = transpose_a,
      .transpose_b = transpose_b,
      .accumulate = gemm.product == Product::kWeightGradient};
  Measure(state, 2.0 * static_cast<double>(gemm.m * gemm.n * gemm.k), sgemm_flops,
          [&] { ComputeOnCpu(op); });
}

// Distribution of the rows over the groups: from 0 to several times the mean, or all in one group.
enum class Groups { kRagged, kOne };

Tensor Offsets(Arena& arena, Groups groups) {
  const Tensor offsets = arena.New<int64_t>({kExperts + 1});
  int64_t* offset = offsets.as<int64_t>();
  std::fill_n(offset, kExperts + 1, kTokens);
  offset[0] = 0;
  for (int64_t g = 1; g < kExperts && groups == Groups::kRagged; ++g) {
    const double share = static_cast<double>(g) / kExperts;
    offset[g] = static_cast<int64_t>(kTokens * share * share * share);
  }
  return offsets;
}

struct GroupedCase {
  const char* name;
  int64_t n, k;
  Product product;  // not kWeightGradient
  Groups groups = Groups::kRagged;
};

constexpr GroupedCase kGrouped[] = {
    {"grouped/gate_up", 2 * kFfn, kHidden, Product::kForward},
    {"grouped/gate_up_one_group", 2 * kFfn, kHidden, Product::kForward, Groups::kOne},
    {"grouped/gate_up_dx", kHidden, 2 * kFfn, Product::kInputGradient},
    {"grouped/down", kHidden, kFfn, Product::kForward},
    {"grouped/down_dx", kFfn, kHidden, Product::kInputGradient},
};

void BenchGrouped(benchmark::State& state, const GroupedCase& grouped, double sgemm_flops) {
  Arena arena = NewArena();
  const int64_t n = grouped.n, k = grouped.k;
  const bool transpose = grouped.product == Product::kForward;
  const Tensor weight =
      transpose ? Random(arena, {kExperts, n, k}) : Random(arena, {kExperts, k, n});
  const GroupedGemm op{.a = Random(arena, {kTokens, k}),
                       .weight = weight,
                       .offsets = Offsets(arena, grouped.groups),
                       .c = Random(arena, {kTokens, n}),
                       .transpose_weight = transpose};
  Measure(state, 2.0 * static_cast<double>(kTokens * n * k), sgemm_flops,
          [&] { ComputeOnCpu(op); });
}

void BenchWeightGradient(benchmark::State& state, int64_t out, int64_t in, int64_t num_layers,
                         double sgemm_flops) {
  Arena arena = NewArena();
  const Tensor offsets = Offsets(arena, Groups::kRagged);
  std::vector<GroupedRows> layers;
  for (int64_t i = 0; i < num_layers; ++i) {
    layers.push_back({Random(arena, {kTokens, out}), Random(arena, {kTokens, in}), offsets});
  }
  const GroupedWeightGradient op{.layers = layers.data(),
                                 .num_layers = num_layers,
                                 .dweight = Random(arena, {kExperts, out, in})};
  Measure(state, 2.0 * static_cast<double>(num_layers * kTokens * out * in), sgemm_flops,
          [&] { ComputeOnCpu(op); });
}

// Counts only the FLOPs of the visible half of the scores.
void BenchAttention(benchmark::State& state, int64_t kv_heads, int64_t sequence, Pass pass,
                    double sgemm_flops) {
  Arena arena = NewArena();
  const AttentionForward forward{
      .qkv = Random(arena, {kTokens, (kHeads + 2 * kv_heads) * kHeadDim}),
      .heads = kHeads,
      .kv_heads = kv_heads,
      .sequence = sequence,
      .out = Random(arena, {kTokens, kHeads * kHeadDim}),
      .lse = Random(arena, {kTokens / sequence, kHeads, sequence})};
  const AttentionBackward gradient{.dout = Random(arena, {kTokens, kHeads * kHeadDim}),
                                   .qkv = forward.qkv,
                                   .out = forward.out,
                                   .lse = forward.lse,
                                   .heads = kHeads,
                                   .kv_heads = kv_heads,
                                   .sequence = sequence,
                                   .dqkv = arena.New({kTokens, forward.qkv.dim(1)})};
  ComputeOnCpu(forward);
  const double product = static_cast<double>(kTokens * (sequence + 1) * kHeads * kHeadDim);
  Measure(state, (pass == Pass::kBackward ? 5 : 2) * product, sgemm_flops, [&] {
    if (pass == Pass::kBackward) {
      ComputeOnCpu(gradient);
    } else {
      ComputeOnCpu(forward);
    }
  });
}

void BenchSwiGlu(benchmark::State& state, Pass pass) {
  Arena arena = NewArena();
  const Tensor gate_up = Random(arena, {kTokens, 2 * kFfn}), y = Random(arena, {kTokens, kFfn});
  const Tensor dgate_up = Random(arena, {kTokens, 2 * kFfn}), dy = Random(arena, {kTokens, kFfn});
  const SwiGluForward forward{.gate_up = gate_up, .y = y};
  const SwiGluBackward gradient{.dy = dy, .gate_up = gate_up, .dgate_up = dgate_up, .y = y};
  for (auto _ : state) {
    if (pass == Pass::kBackward) {
      ComputeOnCpu(gradient);
    } else {
      ComputeOnCpu(forward);
    }
  }
  const double bytes =
      static_cast<double>(kTokens * kFfn * (pass == Pass::kBackward ? 6 : 3)) * sizeof(float);
  state.counters["GB/s"] =
      benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsIterationInvariantRate);
}

// A norm router with one expert per token; every byte is counted once.
void BenchRouter(benchmark::State& state, int64_t experts, Pass pass) {
  Arena arena = NewArena();
  const Tensor logits = Random(arena, {kTokens, experts}), scale = Random(arena, {1});
  const Tensor gates = arena.New({kTokens, 1}), counts = arena.New<int64_t>({experts});
  const Tensor ids = arena.New<int32_t>({kTokens, 1});
  const RouteTokens forward{.kind = ScoreKind::kNorm,
                            .c = 1,
                            .eps = 1e-8f,
                            .logits = logits,
                            .scale = scale,
                            .bias = {},
                            .scores = arena.New({kTokens, experts}),
                            .ids = ids,
                            .gates = gates,
                            .gate_sums = {},
                            .counts = counts};
  const RouteTokensBackward gradient{.kind = ScoreKind::kNorm,
                                     .c = 1,
                                     .eps = 1e-8f,
                                     .dgates = Random(arena, {kTokens, 1}),
                                     .score_gradient = Random(arena, {experts}),
                                     .logits = logits,
                                     .scale = scale,
                                     .scores = {},
                                     .ids = ids,
                                     .gates = {},
                                     .gate_sums = {},
                                     .dlogits = arena.New({kTokens, experts}),
                                     .dscale = Random(arena, {1})};
  std::fill_n(counts.as<int64_t>(), experts, 0);
  ComputeOnCpu(forward);
  for (auto _ : state) {
    if (pass == Pass::kBackward) {
      ComputeOnCpu(gradient);
    } else {
      ComputeOnCpu(forward);
    }
  }
  const double bytes = static_cast<double>(2 * logits.bytes() + 2 * gates.bytes());
  state.counters["GB/s"] =
      benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsIterationInvariantRate);
}

template <typename Function, typename... Args>
void Register(const std::string& name, Function function, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { function(state, args...); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

void RegisterAll(double peak) {
  for (const GemmCase& gemm : kGemms) Register(gemm.name, BenchGemm, gemm, peak);
  for (const GroupedCase& grouped : kGrouped) Register(grouped.name, BenchGrouped, grouped, peak);
  for (const int64_t layers : {1, 4, 12}) {
    const std::string suffix = "/layers:" + std::to_string(layers);
    Register("grouped/gate_up_dw" + suffix, BenchWeightGradient, 2 * kFfn, kHidden, layers, peak);
    Register("grouped/down_dw" + suffix, BenchWeightGradient, kHidden, kFfn, layers, peak);
  }
  for (const int64_t kv_heads : {2, 4}) {
    const std::string suffix = "/kv:" + std::to_string(kv_heads);
    Register("attention/forward" + suffix, BenchAttention, kv_heads, 256, Pass::kForward, peak);
    Register("attention/backward" + suffix, BenchAttention, kv_heads, 256, Pass::kBackward, peak);
  }
  Register("attention/forward_1024", BenchAttention, 4, 1024, Pass::kForward, peak);
  Register("attention/backward_1024", BenchAttention, 4, 1024, Pass::kBackward, peak);
  for (const int64_t experts : {kExperts, int64_t{384}}) {
    const std::string suffix = "/experts:" + std::to_string(experts);
    Register("router/forward" + suffix, BenchRouter, experts, Pass::kForward);
    Register("router/backward" + suffix, BenchRouter, experts, Pass::kBackward);
  }
  Register("swiglu/forward", BenchSwiGlu, Pass::kForward);
  Register("swiglu/backward", BenchSwiGlu, Pass::kBackward);
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const int threads = omp_get_max_threads();
  const double peak = unipool::MeasureSgemmFlops(threads, 2048);
  benchmark::AddCustomContext("sgemm_2048_gflops", std::to_string(peak / 1e9));
  benchmark::AddCustomContext("threads", std::to_string(threads));
  unipool::RegisterAll(peak);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
