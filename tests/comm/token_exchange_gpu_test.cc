// The exchange over tensors of a GPU, compared with the CPU. Orders and copies are equal; sums may
// be rounded differently.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "comm/staged_communicator.h"
#include "runtime/finite_check.h"
#include "tests/comm/exchange_layer.h"
#include "tests/support/gpu.h"
#include "tests/support/on_ranks.h"

namespace unipool {
namespace {

using testing::ExchangeCase;
using testing::ExchangeCases;
using testing::ExchangeLayer;
using testing::OnRanks;
using testing::Read;

constexpr Device kGpu{DeviceType::kCuda, 0};

class GpuTokenExchangeTest : public ::testing::TestWithParam<ExchangeCase> {};

template <typename T>
void ExpectSame(const Tensor& actual, const Tensor& expected) {
  EXPECT_EQ(Read<T>(actual), Read<T>(expected)) << expected.ShapeString();
}

void ExpectNear(const Tensor& actual, const Tensor& expected) {
  const std::vector<float> a = Read<float>(actual), b = Read<float>(expected);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5f * (1 + std::abs(b[i])));
}

void ExpectLikeTheCpu(ExchangeLayer& gpu, ExchangeLayer& cpu) {
  for (ExchangeLayer* layer : {&gpu, &cpu}) layer->Plan();
  if (gpu.exchange.single_rank()) {
    EXPECT_EQ(gpu.plan.sent, gpu.tokens * gpu.c.top_k);  // the host does not wait for the number
    EXPECT_EQ(gpu.plan.received, gpu.plan.sent);
  } else {
    EXPECT_EQ(gpu.plan.sent, cpu.plan.sent);
    EXPECT_EQ(gpu.plan.received, cpu.plan.received);
  }
  EXPECT_EQ(gpu.plan.send_rows, cpu.plan.send_rows);
  EXPECT_EQ(gpu.plan.recv_rows, cpu.plan.recv_rows);
  EXPECT_EQ(gpu.plan.first_sent, cpu.plan.first_sent);
  ExpectSame<int32_t>(gpu.plan.send_index, cpu.plan.send_index);
  ExpectSame<int32_t>(gpu.plan.positions, cpu.plan.positions);
  ExpectSame<int64_t>(gpu.plan.offsets, cpu.plan.offsets);
  ExpectSame<int32_t>(gpu.plan.to_slot_order, cpu.plan.to_slot_order);
  ExpectSame<int32_t>(gpu.plan.to_arrival_order, cpu.plan.to_arrival_order);
  for (ExchangeLayer* layer : {&gpu, &cpu}) {
    layer->Forward();
    layer->Backward();
  }
  ExpectNear(gpu.y, cpu.y);
  ExpectNear(gpu.dx, cpu.dx);
  ExpectNear(gpu.dgates, cpu.dgates);
}

TEST_P(GpuTokenExchangeTest, OneRankAgreesWithTheCpu) {
  SKIP_WITHOUT_GPU();
  const ExchangeCase whole = GetParam().OnOneRank();
  OnRanks(1, [&](Communicator& group) {
    ExchangeLayer gpu(whole, group, kGpu), cpu(whole, group);
    ExpectLikeTheCpu(gpu, cpu);
    EXPECT_EQ(gpu.exchange.ReadAndClearExposedSeconds(), 0);  // nothing travels
  });
}

TEST_P(GpuTokenExchangeTest, SeveralRanksAgreeWithTheCpu) {
  SKIP_WITHOUT_GPU();
  const ExchangeCase& c = GetParam();
  testing::OnRanksOwned(c.ranks(), [&](std::unique_ptr<Communicator> host) {
    const auto group = CreateStagedCommunicator(std::move(host), kGpu).value();
    for (const int chunks : {1, 2, 5}) {
      ExchangeLayer gpu(c, *group, kGpu, chunks), cpu(c, *group, Device{}, chunks);
      ExpectLikeTheCpu(gpu, cpu);
      const bool travels = c.ranks() > 1;
      EXPECT_EQ(gpu.exchange.ReadAndClearExposedSeconds() > 0, travels);
      EXPECT_EQ(gpu.exchange.ReadAndClearExposedSeconds(), 0);
    }
  });
}

// A check for NaN looks at every row, so every row must exist.
TEST_P(GpuTokenExchangeTest, AFiniteCheckSeesOnlyRowsThatExist) {
  SKIP_WITHOUT_GPU();
  const ExchangeCase whole = GetParam().OnOneRank();
  OnRanks(1, [&](Communicator& group) {
    ExchangeLayer gpu(whole, group, kGpu), cpu(whole, group);
    FiniteCheck check;
    gpu.ctx.finite_check = &check;
    for (ExchangeLayer* layer : {&gpu, &cpu}) layer->Plan();
    EXPECT_EQ(gpu.plan.sent, cpu.plan.sent);
    EXPECT_EQ(gpu.plan.received, cpu.plan.received);
    gpu.Forward();
    gpu.Backward();
    EXPECT_EQ(check.first, "");
  });
}

INSTANTIATE_TEST_SUITE_P(, GpuTokenExchangeTest, ::testing::ValuesIn(ExchangeCases()),
                         [](const ::testing::TestParamInfo<ExchangeCase>& params) {
                           return params.param.name;
                         });

}  // namespace
}  // namespace unipool
