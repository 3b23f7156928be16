// Products of a precise weight with bfloat16 have the accuracy of float32.
#include <glog/logging.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "model/linear.h"
#include "runtime/arena.h"
#include "runtime/copy.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Workbench;

constexpr Device kGpu{DeviceType::kCuda, 0};

// A precise weight and its operands on a GPU, with their values on the host.
struct Precise {
  Precise(int64_t tokens, int64_t in, int64_t out)
      : linear(parameters, {{"w", out}}, {.in = in, .init_std = 1.0f, .precise = true}),
        arena(Arena::Create(kGpu, 64 << 20).value()),
        stream(Stream::Create(kGpu)),
        x_values(bench.Random("x", {tokens, in})),
        dy_values(bench.Random("dy", {tokens, out})) {
    ctx.arena = &arena;
    ctx.stream = stream.get();
    CHECK(parameters.Allocate(kGpu, 1, DType::kBFloat16).ok());
    parameters.Initialize(1);
    for (int64_t i = 0; i < x_values.numel(); ++i) {
      float& value = x_values.as<float>()[i];
      value = BFloat16::From(value).ToFloat();
    }
    weight.resize(static_cast<size_t>(in * out));
    ReadTensor(linear.weight(), weight.data());
    x = arena.New<BFloat16>({tokens, in});
    const Tensor rounded = bench.arena().New<BFloat16>({tokens, in});
    for (int64_t i = 0; i < x_values.numel(); ++i) {
      rounded.as<BFloat16>()[i] = BFloat16::From(x_values.as<float>()[i]);
    }
    CopyTensor(rounded, x, *stream);
    dy = arena.New({tokens, out});
    CopyTensor(dy_values, dy, *stream);
  }

  Workbench bench;
  ParameterList parameters;
  Linear linear;
  Arena arena;
  std::unique_ptr<Stream> stream;
  Context ctx;
  Tensor x_values, dy_values;
  std::vector<float> weight;
  Tensor x, dy;
};

// Compares each of rows x columns values with sum_k terms(row, column, k), relative to sum_k
// |terms|.
void ExpectProducts(const std::vector<float>& actual, int64_t columns, int64_t inner, double bound,
                    const std::function<double(int64_t, int64_t, int64_t)>& term) {
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    double sum = 0, size = 0;
    for (int64_t k = 0; k < inner; ++k) {
      const auto at = static_cast<int64_t>(i);
      const double value = term(at / columns, at % columns, k);
      sum += value;
      size += std::abs(value);
    }
    worst = std::max(worst, std::abs(actual[i] - sum) / size);
  }
  EXPECT_LT(worst, bound);
}

TEST(PreciseLinear, LogitsAndWeightGradientAreThoseOfFloat32) {
  SKIP_WITHOUT_GPU();
  for (const auto& [tokens, in, out] : {std::array<int64_t, 3>{200, 64, 96}, {33, 24, 7}}) {
    Precise p(tokens, in, out);
    const float *w = p.weight.data(), *x = p.x_values.as<float>(), *dy = p.dy_values.as<float>();
    const Tensor y = p.arena.New({tokens, out}), dx = p.arena.New<BFloat16>({tokens, in});
    p.linear.Forward(p.ctx, {.x = p.x, .y = y});
    p.linear.Backward(p.ctx, {.dy = p.dy, .x = p.x, .dx = dx, .add_to_dx = false});
    std::vector<float> logits(static_cast<size_t>(tokens * out));
    std::vector<float> dweight(static_cast<size_t>(in * out));
    ReadTensor(y, logits.data());
    ReadTensor(p.linear.dweight(), dweight.data());
    constexpr double kFloat32 = 0x1p-22;
    ExpectProducts(logits, out, in, kFloat32, [&](int64_t t, int64_t e, int64_t k) {
      return double{x[t * in + k]} * w[e * in + k];
    });
    ExpectProducts(dweight, in, tokens, kFloat32, [&](int64_t e, int64_t k, int64_t t) {
      return double{dy[t * out + e]} * x[t * in + k];
    });
    std::vector<BFloat16> rounded(static_cast<size_t>(tokens * in));
    ReadTensor(dx, rounded.data());
    std::vector<float> dinput;
    for (const BFloat16 value : rounded) dinput.push_back(value.ToFloat());
    ExpectProducts(dinput, in, out, 0x1p-8, [&](int64_t t, int64_t k, int64_t e) {
      return double{dy[t * out + e]} * w[e * in + k];
    });
  }
}

}  // namespace
}  // namespace unipool
