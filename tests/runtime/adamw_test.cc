#include "runtime/ops/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ToVector;
using testing::Workbench;

constexpr double kLr = 0.01, kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8, kDecay = 0.1, kScale = 0.5;

struct State {
  Tensor value, grad, m, v;

  AdamW StepNumber(int step, int64_t begin, int64_t end) const {
    return {.value = value.Rows(begin, end),
            .grad = grad.Rows(begin, end),
            .m = m.Rows(begin, end),
            .v = v.Rows(begin, end),
            .rounded = {},
            .lr = static_cast<float>(kLr),
            .beta1 = static_cast<float>(kBeta1),
            .beta2 = static_cast<float>(kBeta2),
            .eps = static_cast<float>(kEps),
            .weight_decay = static_cast<float>(kDecay),
            .bias1 = static_cast<float>(1 - std::pow(kBeta1, step)),
            .bias2 = static_cast<float>(1 - std::pow(kBeta2, step)),
            .grad_scale = static_cast<float>(kScale)};
  }
};

State NewState(Workbench& bench, int64_t count) {
  return {bench.Random("value", {count}), bench.Random("grad", {count}), bench.Zeros({count}),
          bench.Zeros({count})};
}

TEST(AdamW, ThreeStepsFollowTheFormulaInDouble) {
  Workbench bench;
  const State state = NewState(bench, 1);
  double value = state.value.as<float>()[0], m = 0, v = 0;
  for (int step = 1; step <= 3; ++step) {
    const float raw = 0.3f * static_cast<float>(step) - 0.5f;
    state.grad.as<float>()[0] = raw;
    Compute(bench.ctx(), state.StepNumber(step, 0, 1));
    const double g = raw * kScale;
    m = kBeta1 * m + (1 - kBeta1) * g;
    v = kBeta2 * v + (1 - kBeta2) * g * g;
    const double m_hat = m / (1 - std::pow(kBeta1, step)), v_hat = v / (1 - std::pow(kBeta2, step));
    value -= kLr * (m_hat / (std::sqrt(v_hat) + kEps) + kDecay * value);
    EXPECT_NEAR(state.value.as<float>()[0], value, 2e-6);
    EXPECT_NEAR(state.m.as<float>()[0], m, 1e-7);
    EXPECT_NEAR(state.v.as<float>()[0], v, 1e-8);
    EXPECT_EQ(state.grad.as<float>()[0], 0);
  }
}

TEST(AdamW, FirstStepMovesEachValueByTheLearningRate) {
  Workbench bench;
  const State state = NewState(bench, 101);
  const std::vector<float> before = ToVector(state.value), grad = ToVector(state.grad);
  AdamW op = state.StepNumber(1, 0, 101);
  op.weight_decay = 0;
  Compute(bench.ctx(), op);
  for (size_t i = 0; i < 101; ++i) {
    const float moved = before[i] - state.value.as<float>()[i];
    EXPECT_NEAR(moved, std::copysign(kLr, grad[i]), 1e-5) << i;
  }
}

TEST(AdamW, ZeroGradientStillDecaysTheValue) {
  Workbench bench;
  const State state{bench.Floats({1}, {2}), bench.Zeros({1}), bench.Zeros({1}), bench.Zeros({1})};
  Compute(bench.ctx(), state.StepNumber(1, 0, 1));
  EXPECT_FLOAT_EQ(state.value.as<float>()[0], static_cast<float>(2 - kLr * kDecay * 2));
}

TEST(AdamW, PartsGiveTheSameBitsAsTheWhole) {
  Workbench bench;
  constexpr int64_t kCount = 9001;
  const State whole = NewState(bench, kCount), parts = NewState(bench, kCount);
  for (int step = 1; step <= 2; ++step) {
    Compute(bench.ctx(), whole.StepNumber(step, 0, kCount));
    for (const auto& [begin, end] : {std::pair{0, 1}, {1, 4999}, {4999, 4999}, {4999, 9001}}) {
      Compute(bench.ctx(), parts.StepNumber(step, begin, end));
    }
    EXPECT_EQ(ToVector(whole.value), ToVector(parts.value));
    std::fill_n(whole.grad.as<float>(), kCount, 0.1f);
    std::fill_n(parts.grad.as<float>(), kCount, 0.1f);
  }
  EXPECT_EQ(ToVector(whole.m), ToVector(parts.m));
  EXPECT_EQ(ToVector(whole.v), ToVector(parts.v));
}

}  // namespace
}  // namespace unipool
