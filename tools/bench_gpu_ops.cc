#include "tools/bench_gpu_ops.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "runtime/arena.h"
#include "runtime/clock.h"
#include "runtime/copy.h"
#include "runtime/median.h"
#include "runtime/ops/adamw.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/elementwise.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/gemm.h"
#include "runtime/ops/grouped_gemm.h"
#include "runtime/ops/permute.h"
#include "runtime/ops/rms_norm.h"
#include "runtime/ops/rope.h"
#include "runtime/ops/route_tokens.h"
#include "runtime/ops/swiglu.h"
#include "runtime/ops/top_k.h"
#include "runtime/rng.h"
#include "runtime/stream.h"

namespace unipool {
namespace {

// Which of the three products of a linear layer y = x W^T is measured: y, dx = dy W, or
// dW += dy^T x (accumulated in float32).
enum class Pass { kForward, kInputGradient, kWeightGradient };

constexpr DType kBf16 = DType::kBFloat16, kF32 = DType::kFloat32;

// The paper's 182M model, configs/unipool_182m.textproto, at 64 sequences.
struct Sizes {
  int64_t tokens = 65536, hidden = 768, heads = 12, kv_heads = 4, head_dim = 64, sequence = 1024;
  int64_t ffn = 3072, vocab = 51200, vocab_chunk = 4096, experts = 96, layers = 12;
  int64_t dense = 8192;                          // size of the product that is the ceiling
  int64_t copied = int64_t{1} << 30;             // bytes of the copy that is the ceiling
  int64_t optimized = int64_t{64} << 20;         // parameters of the optimizer step
  std::vector<int64_t> rows = {171, 512, 2048};  // rows per expert
};

Sizes Small() {
  return {.tokens = 64,
          .hidden = 64,
          .heads = 2,
          .kv_heads = 1,
          .head_dim = 32,
          .sequence = 32,
          .ffn = 64,
          .vocab = 128,
          .vocab_chunk = 32,
          .experts = 4,
          .layers = 2,
          .dense = 64,
          .copied = 1 << 16,
          .optimized = 1 << 10,
          .rows = {5, 16}};
}

class Bench {
 public:
  Bench(Device device, GpuBenchSize size, int64_t arena_bytes)
      : sizes_(size == GpuBenchSize::kSmall ? Small() : Sizes{}),
        batches_(size == GpuBenchSize::kSmall ? 1 : 7),
        batch_seconds_(size == GpuBenchSize::kSmall ? 0 : 0.03),
        stream_(Stream::Create(device)),
        arena_(Arena::Create(device, arena_bytes).value()) {
    ctx_.stream = stream_.get();
    ctx_.arena = &arena_;
    auto pattern = Buffer::Allocate(Device{}, kPatternElements * int64_t{sizeof(float)});
    pattern_ = std::move(pattern).value();
    Rng(1, StreamId("bench_gpu"))
        .FillNormal(1.0f, Tensor::Of(static_cast<float*>(pattern_.data()), {kPatternElements}));
  }

  void RunAll();
  GpuRates ReleaseRates() { return {std::move(rows_), dense_flops_, copy_bytes_}; }

 private:
  static constexpr int64_t kPatternElements = 1 << 16;

  Tensor Random(DType dtype, std::initializer_list<int64_t> dims, float scale = 1);
  Tensor Index(std::initializer_list<int64_t> dims, const std::function<int64_t(int64_t)>& value);
  Tensor Offsets(int64_t groups, int64_t rows_each);
  // Returns the median over batches of launches, in seconds per launch.
  double Seconds(const std::function<void()>& launch);
  template <typename Op>
  void Arithmetic(const std::string& name, double flops, const Op& op) {
    AddRow({name, Seconds([&] { Compute(ctx_, op); }), flops, 0});
  }
  template <typename Op>
  void Memory(const std::string& name, double bytes, const Op& op) {
    AddRow({name, Seconds([&] { Compute(ctx_, op); }), 0, bytes});
  }
  void AddRow(const GpuRate& row) { rows_.push_back(row); }

  void Ceilings();
  void DenseProducts();
  void GroupedProducts(int64_t rows_each, const std::string& kernels);
  void GroupedProductsByMma();
  void Attention(const std::string& kernels);
  void AttentionByOwnKernels();
  void Router();
  void MovingRows();
  void PointwiseAndNorms();
  void LossAndEmbedding();
  void OptimizerStep();

  Sizes sizes_;
  int batches_;
  double batch_seconds_;
  std::unique_ptr<Stream> stream_;
  Arena arena_;
  Context ctx_;
  Buffer pattern_;
  std::vector<GpuRate> rows_;
  double dense_flops_ = 1, copy_bytes_ = 1;
};

Tensor Bench::Random(DType dtype, std::initializer_list<int64_t> dims, float scale) {
  const Tensor tensor = arena_.Allocate(dtype, dims);
  const auto* values = static_cast<const float*>(pattern_.data());
  std::vector<char> bytes(static_cast<size_t>(tensor.bytes()));
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const float value = scale * values[i % kPatternElements];
    if (dtype == kBf16) {
      const BFloat16 rounded = BFloat16::From(value);
      std::memcpy(bytes.data() + 2 * i, &rounded, 2);
    } else {
      std::memcpy(bytes.data() + 4 * i, &value, 4);
    }
  }
  Tensor host = tensor;
  host.data = bytes.data();
  host.device = Device{};
  CopyTensor(host, tensor, *stream_);
  stream_->Synchronize();
  return tensor;
}

Tensor Bench::Index(std::initializer_list<int64_t> dims,
                    const std::function<int64_t(int64_t)>& value) {
  const Tensor tensor = arena_.New<int32_t>(dims);
  std::vector<int32_t> host(static_cast<size_t>(tensor.numel()));
  for (size_t i = 0; i < host.size(); ++i) {
    host[i] = static_cast<int32_t>(value(static_cast<int64_t>(i)));
  }
  Tensor from = tensor;
  from.data = host.data();
  from.device = Device{};
  CopyTensor(from, tensor, *stream_);
  stream_->Synchronize();
  return tensor;
}

// Groups with 0.5 to 1.5 times rows_each rows, in random order.
Tensor Bench::Offsets(int64_t groups, int64_t rows_each) {
  std::vector<int64_t> offsets(static_cast<size_t>(groups) + 1);
  const Rng rng(7, StreamId("offsets"));
  double total = 0;
  for (int64_t g = 0; g < groups; ++g) total += 0.5 + rng.Uniform(static_cast<uint64_t>(g));
  double sum = 0;
  for (int64_t g = 0; g < groups; ++g) {
    sum += 0.5 + rng.Uniform(static_cast<uint64_t>(g));
    offsets[g + 1] = static_cast<int64_t>(sum / total * static_cast<double>(groups * rows_each));
  }
  offsets[groups] = groups * rows_each;
  const Tensor tensor = arena_.New<int64_t>({groups + 1});
  CopyTensor(Tensor::Of(offsets.data(), {groups + 1}), tensor, *stream_);
  stream_->Synchronize();
  return tensor;
}

double Bench::Seconds(const std::function<void()>& launch) {
  const auto timed = [&](int64_t launches) {
    stream_->Synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < launches; ++i) launch();
    stream_->Synchronize();
    return SecondsSince(start);
  };
  launch();
  const double once = timed(1);
  const auto launches = std::clamp<int64_t>(static_cast<int64_t>(batch_seconds_ / once), 1, 1000);
  std::vector<double> seconds;
  for (int i = 0; i < batches_; ++i) seconds.push_back(timed(launches) / launches);
  return Median(seconds);
}

void Bench::Ceilings() {
  ArenaScope scope(arena_);
  const int64_t n = sizes_.dense;
  Arithmetic("ceiling: dense product bf16", 2.0 * n * n * n,
             Gemm{.a = Random(kBf16, {n, n}),
                  .b = Random(kBf16, {n, n}),
                  .c = Random(kBf16, {n, n}),
                  .transpose_a = false,
                  .transpose_b = true,
                  .accumulate = false});
  dense_flops_ = rows_.back().flops / rows_.back().seconds;
  const Tensor from = Random(kF32, {sizes_.copied / 4}), to = Random(kF32, {sizes_.copied / 4});
  AddRow({"ceiling: copy on the device", Seconds([&] { CopyTensor(from, to, *stream_); }), 0,
          2.0 * from.bytes()});
  copy_bytes_ = rows_.back().bytes / rows_.back().seconds;
}

void Bench::DenseProducts() {
  struct Product {
    const char* name;
    int64_t m, n, k;
    Pass pass;
  };
  const Sizes& s = sizes_;
  const int64_t qkv = (s.heads + 2 * s.kv_heads) * s.head_dim;
  for (const Product& p : {Product{"qkv", s.tokens, qkv, s.hidden, Pass::kForward},
                           {"qkv dx", s.tokens, s.hidden, qkv, Pass::kInputGradient},
                           {"qkv dw", qkv, s.hidden, s.tokens, Pass::kWeightGradient},
                           {"o", s.tokens, s.hidden, s.heads * s.head_dim, Pass::kForward},
                           {"head", s.vocab_chunk, s.vocab, s.hidden, Pass::kForward},
                           {"head dx", s.vocab_chunk, s.hidden, s.vocab, Pass::kInputGradient},
                           {"head dw", s.vocab, s.hidden, s.vocab_chunk, Pass::kWeightGradient}}) {
    ArenaScope scope(arena_);
    const bool transpose_a = p.pass == Pass::kWeightGradient;
    const bool transpose_b = p.pass == Pass::kForward;
    const Tensor a = transpose_a ? Random(kBf16, {p.k, p.m}) : Random(kBf16, {p.m, p.k});
    const Tensor b = transpose_b ? Random(kBf16, {p.n, p.k}) : Random(kBf16, {p.k, p.n});
    Arithmetic(std::string("gemm ") + p.name, 2.0 * p.m * p.n * p.k,
               Gemm{.a = a,
                    .b = b,
                    .c = Random(transpose_a ? kF32 : kBf16, {p.m, p.n}),
                    .transpose_a = transpose_a,
                    .transpose_b = transpose_b,
                    .accumulate = transpose_a});
  }
  ArenaScope scope(arena_);
  Arithmetic("gemm router (float32)", 2.0 * s.tokens * s.experts * s.hidden,
             Gemm{.a = Random(kF32, {s.tokens, s.hidden}),
                  .b = Random(kF32, {s.experts, s.hidden}),
                  .c = Random(kF32, {s.tokens, s.experts}),
                  .transpose_a = false,
                  .transpose_b = true,
                  .accumulate = false});
}

void Bench::GroupedProducts(int64_t rows_each, const std::string& kernels) {
  const Sizes& s = sizes_;
  const int64_t rows = rows_each * s.experts, wide = 2 * s.ffn;
  const std::string suffix = absl::StrFormat(", %d rows an expert%s", rows_each, kernels);
  const Tensor offsets = Offsets(s.experts, rows_each);
  const auto product = [&](const char* name, int64_t n, int64_t k, Pass pass) {
    ArenaScope scope(arena_);
    const bool transpose = pass == Pass::kForward;
    const Tensor weight = transpose ? Random(kBf16, {s.experts, n, k}, 0.02f)
                                    : Random(kBf16, {s.experts, k, n}, 0.02f);
    Arithmetic(name + suffix, 2.0 * rows * n * k,
               GroupedGemm{.a = Random(kBf16, {rows, k}),
                           .weight = weight,
                           .offsets = offsets,
                           .c = Random(kBf16, {rows, n}),
                           .transpose_weight = transpose});
  };
  product("grouped gate+up", wide, s.hidden, Pass::kForward);
  product("grouped gate+up dx", s.hidden, wide, Pass::kInputGradient);
  product("grouped down", s.hidden, s.ffn, Pass::kForward);
  product("grouped down dx", s.ffn, s.hidden, Pass::kInputGradient);
  const auto gradient = [&](const char* name, int64_t out, int64_t in) {
    ArenaScope scope(arena_);
    const GroupedRows layer{
        .dy = Random(kBf16, {rows, out}), .x = Random(kBf16, {rows, in}), .offsets = offsets};
    Arithmetic(
        name + suffix, 2.0 * rows * out * in,
        GroupedWeightGradient{
            .layers = &layer, .num_layers = 1, .dweight = Random(kF32, {s.experts, out, in})});
  };
  gradient("grouped gate+up dw", wide, s.hidden);
  gradient("grouped down dw", s.hidden, s.ffn);
}

// Measures the kernels for GPUs other than Hopper, for comparison.
void Bench::GroupedProductsByMma() {
  setenv("UNIPOOL_WGMMA", "0", /*overwrite=*/1);
  for (const int64_t rows : sizes_.rows) GroupedProducts(rows, ", by mma");
  unsetenv("UNIPOOL_WGMMA");
}

// Counts only the FLOPs of the visible half of the scores.
void Bench::Attention(const std::string& kernels) {
  const Sizes& s = sizes_;
  ArenaScope scope(arena_);
  const int64_t width = s.heads * s.head_dim, all = (s.heads + 2 * s.kv_heads) * s.head_dim;
  const AttentionForward forward{.qkv = Random(kBf16, {s.tokens, all}),
                                 .heads = s.heads,
                                 .kv_heads = s.kv_heads,
                                 .sequence = s.sequence,
                                 .out = Random(kBf16, {s.tokens, width}),
                                 .lse = Random(kF32, {s.tokens / s.sequence, s.heads, s.sequence})};
  const double product = 1.0 * s.tokens * (s.sequence + 1) * width;
  Arithmetic("attention" + kernels, 2 * product, forward);
  Arithmetic("attention backward" + kernels, 5 * product,
             AttentionBackward{.dout = Random(kBf16, {s.tokens, width}),
                               .qkv = forward.qkv,
                               .out = forward.out,
                               .lse = forward.lse,
                               .heads = s.heads,
                               .kv_heads = s.kv_heads,
                               .sequence = s.sequence,
                               .dqkv = Random(kBf16, {s.tokens, all})});
}

// Measures UniPool's own kernels, to compare with cuDNN. Without cuDNN this repeats the
// measurement.
void Bench::AttentionByOwnKernels() {
  setenv("UNIPOOL_CUDNN", "0", /*overwrite=*/1);
  Attention(", by own kernels");
  unsetenv("UNIPOOL_CUDNN");
}

void Bench::Router() {
  const Sizes& s = sizes_;
  ArenaScope scope(arena_);
  const Tensor logits = Random(kF32, {s.tokens, s.experts});
  const Tensor scores = Random(kF32, {s.tokens, s.experts}), scale = Random(kF32, {1});
  const Tensor ids = arena_.New<int32_t>({s.tokens, 1}), counts = arena_.New<int64_t>({s.experts});
  const double matrix = 1.0 * logits.bytes(), choices = 8.0 * s.tokens;
  Memory("router norm top-1", 2 * matrix + choices,
         RouteTokens{.kind = ScoreKind::kNorm,
                     .c = 1,
                     .eps = 1e-8f,
                     .logits = logits,
                     .scale = scale,
                     .bias = {},
                     .scores = scores,
                     .ids = ids,
                     .gates = Random(kF32, {s.tokens, 1}),
                     .gate_sums = {},
                     .counts = counts});
  Memory("router column sums", matrix,
         ColumnSums{.scores = scores, .sums = arena_.New<double>({s.experts})});
  Memory("router norm top-1 backward", 2 * matrix + choices,
         RouteTokensBackward{.kind = ScoreKind::kNorm,
                             .c = 1,
                             .eps = 1e-8f,
                             .dgates = Random(kF32, {s.tokens, 1}),
                             .score_gradient = Random(kF32, {s.experts}),
                             .logits = logits,
                             .scale = scale,
                             .scores = {},
                             .ids = ids,
                             .gates = {},
                             .gate_sums = {},
                             .dlogits = Random(kF32, {s.tokens, s.experts}),
                             .dscale = Random(kF32, {1})});
}

void Bench::MovingRows() {
  const Sizes& s = sizes_;
  ArenaScope scope(arena_);
  const Tensor x = Random(kBf16, {s.tokens, s.hidden}), y = Random(kBf16, {s.tokens, s.hidden});
  // A permutation without locality: an odd step modulo a power of two.
  const Tensor index = Index({s.tokens}, [&](int64_t i) { return i * 40503 % s.tokens; });
  const Tensor positions = index.Reshape({s.tokens, 1}), gates = Random(kF32, {s.tokens, 1});
  const double rows = 1.0 * x.bytes();
  Memory("permute gather", 2 * rows, GatherRows{.x = x, .index = index, .y = y});
  Memory("permute combine", 3 * rows,
         CombineRows{.rows = x, .positions = positions, .gates = gates, .base = y, .y = y});
  Memory("permute combine backward", 3 * rows,
         CombineRowsBackward{.dy = y,
                             .rows = x,
                             .positions = positions,
                             .gates = gates,
                             .drows = x,
                             .dgates = Random(kF32, {s.tokens, 1})});
}

void Bench::PointwiseAndNorms() {
  const Sizes& s = sizes_;
  ArenaScope scope(arena_);
  const Tensor x = Random(kBf16, {s.tokens, s.hidden}), y = Random(kBf16, {s.tokens, s.hidden});
  const Tensor dx = Random(kBf16, {s.tokens, s.hidden}), weight = Random(kBf16, {s.hidden});
  const Tensor rstd = Random(kF32, {s.tokens});
  const double rows = 1.0 * x.bytes();
  Memory("rms norm", 2 * rows,
         RmsNormForward{.x = x, .weight = weight, .eps = 1e-5f, .y = y, .rstd = rstd});
  Memory("rms norm backward", 4 * rows,
         RmsNormBackward{.dy = y,
                         .x = x,
                         .weight = weight,
                         .rstd = rstd,
                         .dx = dx,
                         .dweight = Random(kF32, {s.hidden}),
                         .add_to_dx = true});
  const Tensor gate_up = Random(kBf16, {s.tokens, 2 * s.ffn});
  const Tensor act = Random(kBf16, {s.tokens, s.ffn});
  Memory("swiglu", 3.0 * act.bytes(), SwiGluForward{.gate_up = gate_up, .y = act});
  Memory("swiglu backward", 6.0 * act.bytes(),
         SwiGluBackward{.dy = act, .gate_up = gate_up, .dgate_up = gate_up, .y = act});
  const int64_t all = (s.heads + 2 * s.kv_heads) * s.head_dim;
  const Tensor qkv = Random(kBf16, {s.tokens, all});
  Memory("rope", 2.0 * 2 * s.tokens * (s.heads + s.kv_heads) * s.head_dim,
         Rope{.x = qkv,
              .table = Random(kF32, {s.sequence, s.head_dim}),
              .heads = s.heads + s.kv_heads,
              .sequence = s.sequence,
              .inverse = false});
}

void Bench::LossAndEmbedding() {
  const Sizes& s = sizes_;
  ArenaScope scope(arena_);
  const Tensor logits = Random(kBf16, {s.vocab_chunk, s.vocab});
  const auto id = [&](int64_t i) { return i * 2654435761 % s.vocab; };
  Memory("cross entropy, loss and gradient", 2.0 * logits.bytes(),
         CrossEntropyGradient{.logits = logits,
                              .targets = Index({s.vocab_chunk}, id),
                              .scale = 1e-5f,
                              .losses = Random(kF32, {s.vocab_chunk})});
  const Tensor tokens = Index({s.tokens}, id), y = Random(kBf16, {s.tokens, s.hidden});
  Memory("embedding", 2.0 * y.bytes(),
         EmbeddingForward{.tokens = tokens, .table = Random(kBf16, {s.vocab, s.hidden}), .y = y});
  Memory("embedding backward", 1.0 * y.bytes() + 8.0 * s.vocab * s.hidden,
         EmbeddingBackward{.tokens = tokens, .dy = y, .dtable = Random(kF32, {s.vocab, s.hidden})});
}

void Bench::OptimizerStep() {
  const int64_t n = sizes_.optimized;
  ArenaScope scope(arena_);
  const Tensor v = Random(kF32, {n});
  Compute(ctx_, Fill{.x = v, .value = 1e-4});
  const Tensor grad = Random(kF32, {n});
  // Bytes: reads value, gradient and moments; writes them and the rounded weights.
  Memory("adamw", 4.0 * 8 * n + 2.0 * n,
         AdamW{.value = Random(kF32, {n}),
               .grad = grad,
               .m = Random(kF32, {n}, 1e-3f),
               .v = v,
               .rounded = arena_.Allocate(kBf16, {n}),
               .lr = 1e-4f,
               .beta1 = 0.9f,
               .beta2 = 0.999f,
               .eps = 1e-8f,
               .weight_decay = 0.01f,
               .bias1 = 0.5f,
               .bias2 = 0.5f,
               .grad_scale = 1});
  Memory("sum of squares", 4.0 * n, SumOfSquares{.x = grad, .sum = arena_.New<double>({1})});
}

void Bench::RunAll() {
  Ceilings();
  DenseProducts();
  for (const int64_t rows : sizes_.rows) GroupedProducts(rows, "");
  GroupedProductsByMma();
  Attention("");
  AttentionByOwnKernels();
  Router();
  MovingRows();
  PointwiseAndNorms();
  LossAndEmbedding();
  OptimizerStep();
}

}  // namespace

GpuRates MeasureGpuRates(Device device, int64_t arena_bytes, GpuBenchSize size) {
  Bench bench(device, size, arena_bytes);
  bench.RunAll();
  return bench.ReleaseRates();
}

}  // namespace unipool
