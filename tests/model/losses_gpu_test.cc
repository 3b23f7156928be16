// Balance losses on a GPU, compared with the CPU, over steps and micro-batches.
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "comm/local_communicator.h"
#include "comm/staged_communicator.h"
#include "model/losses.h"
#include "runtime/copy.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Workbench;

constexpr Device kGpu{DeviceType::kCuda, 0};
constexpr int64_t kTokens = 300, kExperts = 33;

// Two layers that share a pool.
struct Balanced {
  Balanced(Device device, const BalanceSettings& settings)
      : statistics(LoadStatistics::Create({0, 0}, {kExperts}, device).value()),
        losses(BalanceLosses::Create(*statistics, settings).value()),
        sums(LossSums::Create(device).value()),
        arena(Arena::Create(device, 1 << 20).value()),
        stream(Stream::Create(device)) {
    ctx.arena = &arena;
    ctx.stream = stream.get();
  }

  Tensor Move(const Tensor& host) {
    Tensor there = host;
    there.device = stream->device();
    there.data = arena.Allocate(host.dtype, {host.numel()}).data;
    CopyTensor(host, there, *stream);
    stream->Synchronize();
    return there;
  }

  // A step of two micro-batches. Returns the score gradients of both layers.
  std::vector<float> Step(Workbench& bench, Communicator& world) {
    losses->StartStep(ctx, 2 * kTokens);
    for (int micro = 0; micro < 2; ++micro) {
      ArenaScope scope(arena);
      for (int layer = 0; layer < 2; ++layer) {
        std::vector<int64_t> counts;
        for (int64_t e = 0; e < kExperts; ++e) counts.push_back((e * e + layer + micro) % 9);
        CopyTensor(Move(bench.Longs({kExperts}, counts)), statistics->counts(layer), *stream);
        losses->Add(ctx, layer, Move(bench.Random("scores", {kTokens, kExperts})), sums);
      }
      statistics->FinishMicroBatch(ctx, kTokens);
    }
    statistics->FinishStep(ctx, world);
    std::vector<float> gradients(2 * kExperts);
    for (int layer = 0; layer < 2; ++layer) {
      ReadTensor(losses->score_gradient(layer), gradients.data() + layer * kExperts);
    }
    return gradients;
  }

  std::unique_ptr<LoadStatistics> statistics;
  std::unique_ptr<BalanceLosses> losses;
  LossSums sums;
  Arena arena;
  std::unique_ptr<Stream> stream;
  Context ctx;
};

TEST(GpuBalanceLosses, AgreeWithTheCpu) {
  SKIP_WITHOUT_GPU();
  const auto world =
      CreateStagedCommunicator(std::move(CreateLocalCommunicators(1, absl::Seconds(10))[0]), kGpu)
          .value();
  for (const BalanceSource source : {BalanceSource::kThisRank, BalanceSource::kPreviousStep}) {
    const BalanceSettings settings{.pool_coefficient = 0.5,
                                   .layer_coefficient = 0.25,
                                   .pool_source = source,
                                   .layer_source = source};
    Workbench bench;
    Balanced gpu(kGpu, settings), cpu(Device{}, settings);
    for (int step = 0; step < 2; ++step) {
      const std::vector<float> actual = gpu.Step(bench, *world), expected = cpu.Step(bench, *world);
      for (size_t e = 0; e < actual.size(); ++e) EXPECT_FLOAT_EQ(actual[e], expected[e]) << e;
    }
    const auto actual = gpu.sums.Read(*gpu.stream), expected = cpu.sums.Read(*cpu.stream);
    EXPECT_NE(expected.pool_balance, 0);
    EXPECT_NEAR(actual.pool_balance, expected.pool_balance, 1e-9);
    EXPECT_NEAR(actual.layer_balance, expected.layer_balance, 1e-9);
    gpu.sums.Clear(gpu.ctx);
    EXPECT_EQ(gpu.sums.Read(*gpu.stream).pool_balance, 0);
  }
}

}  // namespace
}  // namespace unipool
