// Training on a GPU, real or emulated, against training on the CPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "configs/run.pb.h"
#include "model/footprint.h"
#include "runtime/copy.h"
#include "runtime/device.h"
#include "tests/launch/cuda/gpu_run.h"
#include "tests/support/gpu.h"
#include "tests/support/status_matchers.h"

namespace {
int64_t allocations = 0;
}  // namespace

// The linker redirects calls of AllocateOnGpu to this (--wrap).
extern "C" {
void* __real__ZN7unipool13AllocateOnGpuENS_6DeviceEl(unipool::Device device, int64_t bytes);
void* __wrap__ZN7unipool13AllocateOnGpuENS_6DeviceEl(unipool::Device device, int64_t bytes) {
  ++allocations;
  return __real__ZN7unipool13AllocateOnGpuENS_6DeviceEl(device, bytes);
}
}

namespace unipool {
namespace {

using testing::ExpectSameBits;
using testing::ExpectSameLosses;
using testing::GpuRun;
using testing::Outcome;
using testing::Variant;

class GpuTrainTest : public ::testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPU(); }
  const GpuRun tiny_;
};

TEST_F(GpuTrainTest, TenStepsInFloat32MatchTheCpu) {
  for (const Variant variant : {Variant::kDense, Variant::kVanilla, Variant::kUniPool}) {
    SCOPED_TRACE(static_cast<int>(variant));
    const config::Run run = tiny_.Settings(variant, 10);
    ExpectSameLosses(tiny_.Train(run), tiny_.Train(tiny_.OnCpu(run)), 1e-5);
  }
}

TEST_F(GpuTrainTest, OtherRoutersAndStatisticsMatchTheCpu) {
  for (const Variant variant : {Variant::kUniPoolTop2, Variant::kSigmoid, Variant::kUniPoolLocal}) {
    SCOPED_TRACE(static_cast<int>(variant));
    const config::Run run = tiny_.Settings(variant, 3);
    ExpectSameLosses(tiny_.Train(run), tiny_.Train(tiny_.OnCpu(run)), 1e-5);
  }
}

TEST_F(GpuTrainTest, TenStepsInBfloat16AreNearThoseOfTheCpu) {
  for (const Variant variant : {Variant::kDense, Variant::kVanilla, Variant::kUniPool}) {
    SCOPED_TRACE(static_cast<int>(variant));
    config::Run run = tiny_.Settings(variant, 10);
    run.mutable_model()->set_precision(config::Model::AUTO);
    const Outcome rounded = tiny_.Train(run), exact = tiny_.Train(tiny_.OnCpu(run));
    EXPECT_NE(rounded.weights, exact.weights);
    ExpectSameLosses(rounded, exact, 1e-2);
  }
}

TEST_F(GpuTrainTest, TheSameRunTwiceGivesTheSameBits) {
  for (const auto precision : {config::Model::FP32, config::Model::BF16}) {
    config::Run run = tiny_.Settings(Variant::kUniPoolTop2, 3);
    run.mutable_model()->set_precision(precision);
    ExpectSameBits(tiny_.Train(run), tiny_.Train(run));
  }
}

TEST_F(GpuTrainTest, MicroBatchesAddUpToTheWholeBatch) {
  config::Run run = tiny_.Settings(Variant::kUniPool, 4);
  const Outcome whole = tiny_.Train(run);
  run.mutable_data()->set_micro_batch(5);
  ExpectSameLosses(tiny_.Train(run), whole, 1e-5);
}

TEST_F(GpuTrainTest, RecomputingChangesNoBit) {
  for (const auto precision : {config::Model::FP32, config::Model::BF16}) {
    config::Run run = tiny_.Settings(Variant::kUniPool, 3);
    run.mutable_model()->set_precision(precision);
    const Outcome kept = tiny_.Train(run);
    for (const auto recompute : {config::Model::EXPERT, config::Model::BLOCK}) {
      run.mutable_model()->set_recompute(recompute);
      ExpectSameBits(tiny_.Train(run), kept);
    }
  }
}

TEST_F(GpuTrainTest, SeveralRanksGiveTheLossesOfOne) {
  const config::Run run = tiny_.Settings(Variant::kUniPoolTop2, 4);
  const Outcome alone = tiny_.Train(run);
  for (const int ranks : {2, 3}) ExpectSameLosses(tiny_.Train(run, ranks), alone, 1e-5);
}

// Every expert is chosen, so half of the choices have a gate of 0 and no row.
TEST_F(GpuTrainTest, UnroutedChoicesMatchTheCpu) {
  config::Run run = tiny_.Settings(Variant::kUniPool, 4);
  run.mutable_pool()->set_top_k(7);
  const Outcome expected = tiny_.Train(tiny_.OnCpu(run)), kept = tiny_.Train(run);
  ExpectSameLosses(kept, expected, 1e-5);
  EXPECT_LT(kept.records.back().layer_imbalance, 2);
  ExpectSameLosses(tiny_.Train(run, 2), expected, 1e-5);
  run.mutable_model()->set_recompute(config::Model::BLOCK);
  run.mutable_pool()->set_gradient_layers(1);
  ExpectSameLosses(tiny_.Train(run), expected, 1e-5);
}

TEST_F(GpuTrainTest, AWarmStepAllocatesNothingOnTheGpu) {
  const config::Run run = tiny_.Settings(Variant::kUniPoolTop2, 2);
  tiny_.Train(run, 1, [](Trainer& trainer, World&) {
    EXPECT_GT(allocations, 0);
    const int64_t before = allocations;
    ASSERT_OK(trainer.Step());
    ASSERT_OK(trainer.Validate());
    EXPECT_EQ(allocations, before);
  });
}

TEST_F(GpuTrainTest, AWeightThatIsNotANumberIsNamed) {
  tiny_.Train(tiny_.Settings(Variant::kUniPool, 1), 1, [](Trainer& trainer, World&) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const Parameter& parameter : trainer.parameters().parameters()) {
      if (parameter.name == "model.norm.weight") WriteTensor(&nan, parameter.value.From({1}));
    }
    const absl::StatusOr<StepRecord> step = trainer.Step();
    EXPECT_EQ(step.status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(step.status().message()),
                ::testing::HasSubstr("weight model.norm.weight, element 0"));
  });
}

// Tensors are rounded up to 64 bytes, which is noticeable in a tiny model.
TEST_F(GpuTrainTest, ActivationsUseThePlannedMemory) {
  for (const auto precision : {config::Model::FP32, config::Model::BF16}) {
    config::Run run = tiny_.Settings(Variant::kUniPool, 2);
    run.mutable_model()->set_precision(precision);
    tiny_.Train(run, 1, [&](Trainer& trainer, World&) {
      const auto planned =
          static_cast<double>(PlanMemory(run, 1, 0, DeviceType::kCuda).activations);
      EXPECT_NEAR(static_cast<double>(trainer.arena().peak_bytes()) / planned, 1.05, 0.1);
    });
  }
}

}  // namespace
}  // namespace unipool
