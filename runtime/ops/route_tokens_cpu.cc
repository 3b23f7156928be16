#include "runtime/ops/route_tokens.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "runtime/ops/check_ids.h"
#include "runtime/ops/choose_largest.h"
#include "runtime/ops/vector_math.h"

namespace unipool {

void RouteTokens::Check() const {
  const bool norm = kind == ScoreKind::kNorm;
  CHECK_EQ(logits.rank, 2);
  CHECK_GE(logits.dim(1), 1);
  CHECK(scores.SameShape(logits)) << scores.ShapeString() << " for " << logits.ShapeString();
  CHECK(!norm || scores.data != logits.data || logits.empty()) << "in place";
  CHECK_EQ(norm, !scale.absent());
  CHECK(!norm || scale.numel() == 1) << scale.ShapeString();
  CHECK_EQ(gates.absent(), ids.absent());
  CHECK_EQ(counts.absent(), ids.absent());
  if (ids.absent()) {
    CHECK(gate_sums.absent() && bias.absent()) << "without a choice";
    return;
  }
  CHECK_EQ(ids.rank, 2);
  CHECK_EQ(ids.dim(0), logits.dim(0));
  CHECK(ids.dim(1) >= 1 && ids.dim(1) <= logits.dim(1))
      << ids.ShapeString() << " for " << logits.ShapeString();
  CHECK(gates.SameShape(ids)) << gates.ShapeString() << " for " << ids.ShapeString();
  CHECK(gate_sums.absent() || gate_sums.numel() == ids.dim(0)) << gate_sums.ShapeString();
  CHECK_EQ(counts.numel(), logits.dim(1));
  CHECK(bias.absent() || bias.numel() == logits.dim(1)) << bias.ShapeString();
}

namespace {

constexpr float kTiny = 1e-20f;

// Number of tokens processed together in each step: few enough that their rows stay in the L1
// cache, and enough that the steps of one token overlap with those of others.
constexpr int64_t kTogether = 8;

// Returns null for an absent tensor.
template <typename T>
T* DataOf(const Tensor& tensor) {
  return tensor.absent() ? nullptr : tensor.as<T>();
}

// sigma * c; 0 for the kinds without sigma, which do not use it.
double ScaleOf(const Tensor& sigma, float c) {
  return sigma.absent() ? 0 : double{sigma.as<float>()[0]} * double{c};
}

// The op's sizes and pointers, read once for all tokens.
struct Routing {
  explicit Routing(const RouteTokens& op)
      : kind(op.kind),
        experts(op.logits.dim(1)),
        k(op.ids.absent() ? 0 : op.ids.dim(1)),
        scale(ScaleOf(op.scale, op.c)),
        eps(double{op.eps}),
        logits(op.logits.as<float>()),
        bias(DataOf<float>(op.bias)),
        scores(op.scores.as<float>()),
        ids(DataOf<int32_t>(op.ids)),
        gates(DataOf<float>(op.gates)),
        gate_sums(DataOf<float>(op.gate_sums)) {}

  ScoreKind kind;
  int64_t experts;
  int64_t k;  // 0 if only scores are computed
  double scale;
  double eps;
  const float* logits;
  const float* bias;
  float* scores;
  int32_t* ids;
  float* gates;
  float* gate_sums;
};

// In double, so that no finite logits overflow and only a row of zeros has norm 0.
double Norm(const float* z, int64_t experts) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t e = 0; e < experts; ++e) sum += double{z[e]} * double{z[e]};
  return std::sqrt(sum);
}

void NormScores(const float* z, int64_t experts, double scale, double eps, float* s) {
  const double norm = Norm(z, experts);
  const float factor = norm == 0 ? 0.0f : static_cast<float>(scale / (norm + eps));
#pragma omp simd
  for (int64_t e = 0; e < experts; ++e) s[e] = factor * (z[e] > 0 ? z[e] : 0.0f);
}

void SoftmaxScores(const float* z, int64_t experts, float* s) {
  const float scale = 1.0f / ExpRow(z, experts, RowMax(z, experts), s);
#pragma omp simd
  for (int64_t e = 0; e < experts; ++e) s[e] *= scale;
}

void SigmoidScores(const float* z, int64_t count, float* s) {
#pragma omp simd
  for (int64_t e = 0; e < count; ++e) s[e] = 1.0f / (1.0f + FastExp(-z[e]));
}

// Of tokens [begin, end).
void Score(const Routing& op, int64_t begin, int64_t end) {
  const int64_t experts = op.experts;
  const float* z = op.logits + begin * experts;
  float* s = op.scores + begin * experts;
  if (op.kind == ScoreKind::kSigmoid) return SigmoidScores(z, (end - begin) * experts, s);
  for (int64_t t = begin; t < end; ++t, z += experts, s += experts) {
    if (op.kind == ScoreKind::kNorm) {
      NormScores(z, experts, op.scale, op.eps, s);
    } else {
      SoftmaxScores(z, experts, s);
    }
  }
}

void WriteKeys(const float* scores, const float* bias, int32_t experts, int32_t* keys) {
  if (bias == nullptr) {
#pragma omp simd
    for (int32_t e = 0; e < experts; ++e) keys[e] = OrderedKey(scores[e]);
  } else {
#pragma omp simd
    for (int32_t e = 0; e < experts; ++e) keys[e] = OrderedKey(scores[e] + bias[e]);
  }
}

// Per-thread state: a row of keys, and counts of the choices of this thread.
struct Choices {
  std::vector<int32_t> keys;
  std::vector<int64_t> counts;

  void Start(int64_t experts) {
    keys.resize(static_cast<size_t>(experts));
    counts.assign(static_cast<size_t>(experts), 0);
  }
  // Adds this thread's counts with atomics: integer sums do not depend on their order.
  void AddTo(int64_t* sums) const {
    for (size_t e = 0; e < counts.size(); ++e) {
      if (counts[e] == 0) continue;
#pragma omp atomic
      sums[e] += counts[e];
    }
  }
};

void ChooseForToken(const Routing& op, int64_t t, Choices& choices) {
  const int32_t experts = static_cast<int32_t>(op.experts);
  const float* scores = op.scores + t * op.experts;
  int32_t* ids = op.ids + t * op.k;
  float* gates = op.gates + t * op.k;
  int32_t* const keys = choices.keys.data();
  int64_t* const counts = choices.counts.data();
  WriteKeys(scores, op.bias, experts, keys);
  ChooseLargest(keys, experts, op.k, ids);
  for (int64_t j = 0; j < op.k; ++j) {
    gates[j] = scores[ids[j]];
    ++counts[ids[j]];
  }
  if (op.gate_sums == nullptr) return;
  const float sum = std::accumulate(gates, gates + op.k, 0.0f) + kTiny;
  for (int64_t j = 0; j < op.k; ++j) gates[j] /= sum;
  op.gate_sums[t] = sum;
}

}  // namespace

void ComputeOnCpu(const RouteTokens& op) {
  const int64_t tokens = op.logits.dim(0);
  const Routing routing(op);
  int64_t* const counts = DataOf<int64_t>(op.counts);
#pragma omp parallel
  {
    thread_local Choices of_thread;
    Choices& choices = of_thread;
    if (routing.k > 0) choices.Start(routing.experts);
#pragma omp for schedule(static) nowait
    for (int64_t begin = 0; begin < tokens; begin += kTogether) {
      const int64_t end = std::min(tokens, begin + kTogether);
      Score(routing, begin, end);
      for (int64_t t = begin; t < end && routing.k > 0; ++t) ChooseForToken(routing, t, choices);
    }
    if (routing.k > 0) choices.AddTo(counts);
  }
}

void RouteTokensBackward::Check() const {
  const bool norm = kind == ScoreKind::kNorm;
  CHECK_EQ(norm, !logits.absent());
  CHECK_EQ(norm, scores.absent());
  CHECK_EQ(norm, !scale.absent());
  CHECK_EQ(norm, !dscale.absent());
  CHECK(!norm || (scale.numel() == 1 && dscale.numel() == 1)) << scale.ShapeString();
  const Tensor& saved = norm ? logits : scores;
  CHECK_EQ(saved.rank, 2);
  CHECK_EQ(ids.rank, 2);
  CHECK_EQ(ids.dim(0), saved.dim(0));
  CHECK(dlogits.SameShape(saved)) << dlogits.ShapeString() << " for " << saved.ShapeString();
  CHECK(dlogits.data != saved.data || saved.empty()) << "in place";
  CHECK(dgates.SameShape(ids)) << dgates.ShapeString() << " for " << ids.ShapeString();
  CHECK_EQ(score_gradient.numel(), saved.dim(1));
  CHECK_EQ(gates.absent(), gate_sums.absent());
  if (gates.absent()) return;
  CHECK(gates.SameShape(ids)) << gates.ShapeString() << " for " << ids.ShapeString();
  CHECK_EQ(gate_sums.numel(), ids.dim(0));
}

namespace {

struct Gradient {
  explicit Gradient(const RouteTokensBackward& op)
      : kind(op.kind),
        tokens(op.dlogits.dim(0)),
        experts(op.dlogits.dim(1)),
        k(op.ids.dim(1)),
        scale(ScaleOf(op.scale, op.c)),
        eps(double{op.eps}),
        dgates(op.dgates.as<float>()),
        score_gradient(op.score_gradient.as<float>()),
        saved(DataOf<float>(kind == ScoreKind::kNorm ? op.logits : op.scores)),
        ids(op.ids.as<int32_t>()),
        gates(DataOf<float>(op.gates)),
        gate_sums(DataOf<float>(op.gate_sums)),
        dlogits(op.dlogits.as<float>()) {}

  ScoreKind kind;
  int64_t tokens;
  int64_t experts;
  int64_t k;
  double scale;
  double eps;
  const float* dgates;
  const float* score_gradient;
  const float* saved;  // logits or scores
  const int32_t* ids;
  const float* gates;
  const float* gate_sums;
  float* dlogits;
};

// Writes the gradient of the token's scores to dlogits, which later holds that of the logits.
void ScoresGradient(const Gradient& op, int64_t t) {
  float* ds = op.dlogits + t * op.experts;
  const int32_t* ids = op.ids + t * op.k;
  const float* dgates = op.dgates + t * op.k;
  std::memcpy(ds, op.score_gradient, static_cast<size_t>(op.experts) * sizeof(float));
  if (op.gate_sums == nullptr) {
    for (int64_t j = 0; j < op.k; ++j) ds[ids[j]] += dgates[j];
    return;
  }
  const float* gates = op.gates + t * op.k;
  const float sum = op.gate_sums[t];
  const float dot = std::inner_product(gates, gates + op.k, dgates, 0.0f);
  for (int64_t j = 0; j < op.k; ++j) ds[ids[j]] += (dgates[j] - dot) / sum;
}

// In place: d is the gradient of the scores on entry, of the logits on return. Returns sum_i ds_i
// max(0, z_i / (n+eps)).
double NormBackward(const float* z, int64_t experts, double scale, double eps, float* d) {
  const double norm = Norm(z, experts);
  if (norm == 0) {
    std::fill_n(d, experts, 0.0f);
    return 0;
  }
  double dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t e = 0; e < experts; ++e) dot += double{d[e]} * double{z[e] > 0 ? z[e] : 0.0f};
  const double divisor = norm + eps, dscale = dot / divisor;
  const float direct = static_cast<float>(scale / divisor);
  const float through_norm = static_cast<float>(scale * dscale / divisor / norm);
#pragma omp simd
  for (int64_t e = 0; e < experts; ++e) {
    d[e] = direct * (z[e] > 0 ? d[e] : 0.0f) - through_norm * z[e];
  }
  return dscale;
}

void SoftmaxBackward(const float* s, int64_t experts, float* d) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t e = 0; e < experts; ++e) dot += s[e] * d[e];
#pragma omp simd
  for (int64_t e = 0; e < experts; ++e) d[e] = s[e] * (d[e] - dot);
}

void SigmoidBackward(const float* s, int64_t count, float* d) {
#pragma omp simd
  for (int64_t e = 0; e < count; ++e) d[e] = d[e] * s[e] * (1.0f - s[e]);
}

// Backward through the scores of tokens [begin, end). Returns `sum` plus their contributions to
// dscale / c, added in order.
double ScoresBackward(const Gradient& op, int64_t begin, int64_t end, double sum) {
  const int64_t experts = op.experts;
  const float* saved = op.saved + begin * experts;
  float* d = op.dlogits + begin * experts;
  if (op.kind == ScoreKind::kSigmoid) {
    SigmoidBackward(saved, (end - begin) * experts, d);
    return sum;
  }
  for (int64_t t = begin; t < end; ++t, saved += experts, d += experts) {
    if (op.kind == ScoreKind::kNorm) {
      sum += NormBackward(saved, experts, op.scale, op.eps, d);
    } else {
      SoftmaxBackward(saved, experts, d);
    }
  }
  return sum;
}

// Of tokens [begin, end).
double TokensBackward(const Gradient& op, int64_t begin, int64_t end) {
  double sum = 0;
  for (int64_t first = begin; first < end; first += kTogether) {
    const int64_t last = std::min(end, first + kTogether);
    for (int64_t t = first; t < last; ++t) ScoresGradient(op, t);
    sum = ScoresBackward(op, first, last, sum);
  }
  return sum;
}

}  // namespace

void ComputeOnCpu(const RouteTokensBackward& op) {
  CheckIds(op.kName, op.ids, op.dlogits.dim(1));
  // Each block of tokens is summed by one thread; then the blocks are added in order.
  constexpr int64_t kBlocks = 64;
  std::array<double, kBlocks> sums = {};
  const Gradient gradient(op);
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < kBlocks; ++block) {
    sums[static_cast<size_t>(block)] = TokensBackward(gradient, gradient.tokens * block / kBlocks,
                                                      gradient.tokens * (block + 1) / kBlocks);
  }
  if (op.dscale.absent()) return;
  double total = 0;
  for (const double sum : sums) total += sum;
  op.dscale.as<float>()[0] += static_cast<float>(double{op.c} * total);
}

}  // namespace unipool
