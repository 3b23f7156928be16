// Counts on a GPU: the sums are those of the CPU, and the host receives them in its own memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "comm/load_statistics.h"
#include "comm/staged_communicator.h"
#include "runtime/copy.h"
#include "tests/support/gpu.h"
#include "tests/support/on_ranks.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;

constexpr Device kGpu{DeviceType::kCuda, 0};

// Layers 0 and 1 share a pool of two experts.
struct Counted {
  explicit Counted(Device device)
      : statistics(LoadStatistics::Create({0, 0}, {2}, device).value()),
        stream(Stream::Create(device)) {
    ctx.stream = stream.get();
  }

  void Set(const Tensor& to, std::vector<int64_t> values) {
    CopyTensor(Tensor::Of(values.data(), {to.numel()}), to, *stream);
    stream->Synchronize();
  }
  // Two micro-batches; tokens of the second on ranks above 0 only.
  void Step(Communicator& world) {
    Set(statistics->counts(0), {4, 1});
    Set(statistics->counts(1), {0, 5});
    Set(statistics->unrouted(), {2});
    Set(statistics->unrouted_choices(1), {0, 3});
    statistics->FinishMicroBatch(ctx, 5);
    Set(statistics->counts(1), {world.rank(), 0});
    statistics->FinishMicroBatch(ctx, world.rank());
    statistics->FinishStep(ctx, world);
  }
  std::vector<int64_t> Read(const Tensor& counts) {
    std::vector<int64_t> values(static_cast<size_t>(counts.numel()));
    ReadTensor(counts, values.data());
    return values;
  }

  std::unique_ptr<LoadStatistics> statistics;
  std::unique_ptr<Stream> stream;
  Context ctx;
};

TEST(GpuLoadStatistics, SumsOverRanksAreOnDeviceAndHost) {
  SKIP_WITHOUT_GPU();
  for (const int ranks : {1, 3}) {
    testing::OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> host) {
      const auto world = CreateStagedCommunicator(std::move(host), kGpu).value();
      Counted gpu(kGpu), cpu(Device{});
      for (Counted* counted : {&gpu, &cpu}) {
        counted->Step(*world);
        counted->Step(*world);
      }
      EXPECT_EQ(gpu.statistics->step_state(), cpu.statistics->step_state());
      EXPECT_EQ(gpu.statistics->micro_batch_state(), cpu.statistics->micro_batch_state());
      EXPECT_EQ(gpu.Read(gpu.statistics->previous_on_device(1)),
                cpu.Read(cpu.statistics->previous_on_device(1)));
      EXPECT_EQ(gpu.statistics->PoolImbalance(), cpu.statistics->PoolImbalance());
      EXPECT_EQ(gpu.statistics->previous_unrouted(), 2 * ranks);
      EXPECT_THAT(gpu.statistics->previous_unrouted_choices(1), ElementsAre(0, 3 * ranks));
    });
  }
}

TEST(GpuLoadStatistics, StateMovesFromOneDeviceToAnother) {
  SKIP_WITHOUT_GPU();
  testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> host) {
    const auto world = CreateStagedCommunicator(std::move(host), kGpu).value();
    Counted cpu(Device{}), gpu(kGpu);
    cpu.Step(*world);
    gpu.Set(gpu.statistics->counts(0), {7, 7});  // dropped
    gpu.statistics->Restore({.step = cpu.statistics->step_state(),
                             .micro_batch = cpu.statistics->micro_batch_state(),
                             .step_unrouted_choices = cpu.statistics->step_unrouted_choices()});
    EXPECT_EQ(gpu.statistics->step_state(), cpu.statistics->step_state());
    EXPECT_EQ(gpu.statistics->step_unrouted_choices(), cpu.statistics->step_unrouted_choices());
    EXPECT_THAT(gpu.Read(gpu.statistics->previous_micro_batch(0)), ElementsAre(4, 1, 0, 5));
    EXPECT_THAT(gpu.Read(gpu.statistics->counts(0)), ElementsAre(0, 0));
    gpu.statistics->Restore({});
    EXPECT_FALSE(gpu.statistics->has_previous());
  });
}

TEST(GpuLoadStatistics, ASkippedStepLeavesNoCounts) {
  SKIP_WITHOUT_GPU();
  testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> host) {
    const auto world = CreateStagedCommunicator(std::move(host), kGpu).value();
    Counted gpu(kGpu);
    gpu.Set(gpu.statistics->counts(0), {7, 7});
    gpu.statistics->FinishMicroBatch(gpu.ctx, 14);
    gpu.statistics->DropStep(gpu.ctx);
    gpu.Step(*world);
    EXPECT_THAT(gpu.statistics->previous(0), ElementsAre(4, 1));
  });
}

}  // namespace
}  // namespace unipool
