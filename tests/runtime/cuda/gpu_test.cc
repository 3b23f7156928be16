#include "runtime/gpu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "runtime/arena.h"
#include "runtime/copy.h"
#include "runtime/finite_check.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
#include "tests/support/gpu.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

constexpr Device kGpu{DeviceType::kCuda, 0};

std::vector<float> Read(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  ReadTensor(tensor, values.data());
  return values;
}

TEST(GpuBuffer, IsZeroAndRefusesWhatDoesNotFit) {
  SKIP_WITHOUT_GPU();
  const Buffer buffer = Buffer::Allocate(kGpu, 4 * 1001).value();
  EXPECT_EQ(buffer.device(), kGpu);
  EXPECT_EQ(Read(Tensor::Of(static_cast<float*>(buffer.data()), {1001}, kGpu)),
            std::vector<float>(1001));
  EXPECT_EQ(Buffer::Allocate(kGpu, 0).value().data(), nullptr);
  EXPECT_STATUS(Buffer::Allocate(kGpu, int64_t{1} << 50), kResourceExhausted, "on cuda:0");
}

TEST(GpuBuffer, PinnedIsMemoryOfTheHost) {
  SKIP_WITHOUT_GPU();
  const Buffer buffer = Buffer::AllocatePinned(kGpu, 100).value();
  EXPECT_EQ(buffer.device(), Device{});
  EXPECT_EQ(static_cast<char*>(buffer.data())[99], 0);
}

TEST(GpuArena, HandsOutMemoryOfTheDevice) {
  SKIP_WITHOUT_GPU();
  Arena arena = Arena::Create(kGpu, 1 << 20).value();
  const Tensor tensor = arena.Allocate(DType::kBFloat16, {3, 5});
  EXPECT_EQ(tensor.device, kGpu);
  EXPECT_EQ(tensor.ShapeString(), "bfloat16[3, 5]");
  EXPECT_EQ(arena.peak_bytes(), 64);
}

TEST(GpuCopy, GoesThereAndBack) {
  SKIP_WITHOUT_GPU();
  std::vector<float> there(1000), back(1000);
  std::iota(there.begin(), there.end(), 1.0f);
  const Buffer buffer = Buffer::Allocate(kGpu, 4000).value();
  const Tensor device = Tensor::Of(static_cast<float*>(buffer.data()), {1000}, kGpu);
  const auto stream = Stream::Create(kGpu), side = Stream::Create(kGpu, Stream::Kind::kSide);
  CopyTensor(Tensor::Of(there.data(), {1000}), device, *stream);
  side->Wait(stream->Record());
  CopyTensor(device, Tensor::Of(back.data(), {1000}), *side);
  side->Synchronize();
  EXPECT_EQ(back, there);
}

TEST(GpuStream, RunsWorkOfTheHostInItsTurn) {
  SKIP_WITHOUT_GPU();
  const auto stream = Stream::Create(kGpu);
  const auto host = Stream::Create(Device{}, Stream::Kind::kSide);
  int64_t count = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    stream->Run([&count, i] { count = count == i ? count + 1 : -1; });
  }
  int64_t seen = 0;
  host->Wait(stream->Record());
  host->Run([&] { seen = count; });
  stream->Wait(host->Record());
  EXPECT_EQ(seen, 1000);
  stream->Synchronize();
}

TEST(GpuFiniteCheck, NamesTheFirstBadElementOfATensorOnTheDevice) {
  SKIP_WITHOUT_GPU();
  const Buffer buffer = Buffer::Allocate(kGpu, 400).value();
  const Tensor device = Tensor::Of(static_cast<float*>(buffer.data()), {100}, kGpu);
  const auto stream = Stream::Create(kGpu);
  Context ctx;
  FiniteCheck check;
  ctx.stream = stream.get();
  ctx.finite_check = &check;
  Compute(ctx, Fill{.x = device.Rows(0, 90), .value = 1});
  EXPECT_EQ(check.first, "");
  Compute(ctx, Fill{.x = device.Rows(90, 100), .value = NAN});
  EXPECT_NE(check.first.find("element 0 = nan"), std::string::npos) << check.first;
  EXPECT_EQ(FirstNonFinite(device), 90);
}

TEST(GpuDeathTest, RefusesAnOutputOnTheOtherDevice) {
  SKIP_WITHOUT_GPU();
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        float value = 0;
        const auto stream = Stream::Create(kGpu);
        Context ctx;
        ctx.stream = stream.get();
        Compute(ctx, Fill{.x = Tensor::Of(&value, {1}), .value = 1});
      },
      "fill on cuda:0 into cpu");
}

TEST(Gpu, ProfilerMeasuresTheDevice) {
  SKIP_WITHOUT_GPU();
  auto buffer = Buffer::Allocate(kGpu, 4 << 20);
  ASSERT_OK(buffer);
  const auto stream = Stream::Create(kGpu);
  Profiler profiler;
  profiler.set_device_clock(CreateGpuClock(*stream));
  profiler.set_enabled(true);
  Context ctx;
  ctx.stream = stream.get();
  ctx.profiler = &profiler;
  const Tensor x = Tensor::Of(static_cast<float*>(buffer->data()), {1 << 20}, kGpu);
  for (int i = 0; i < 3; ++i) Compute(ctx, Fill{.x = x, .value = 1});
  EXPECT_GE(profiler.Seconds("fill"), 0);
  EXPECT_LT(profiler.Seconds("fill"), 10);
  EXPECT_EQ(profiler.Entries().at(0).calls, 3);
}

TEST(Gpu, IsDescribedOrTheReasonWhyThereIsNone) {
  EXPECT_NE(DescribeGpu(kGpu), "");
  if (*testing::WhyNoGpu() == '\0') {
    EXPECT_GE(NumGpus(), 1);
    EXPECT_NE(DescribeGpu(kGpu).find("sm_"), std::string::npos) << DescribeGpu(kGpu);
    EXPECT_GT(GpuMemoryBytes(kGpu), int64_t{1} << 30);
    EXPECT_NE(DescribeGpu({DeviceType::kCuda, 99}).find("only "), std::string::npos);
  } else {
    EXPECT_EQ(NumGpus(), 0);
  }
}

}  // namespace
}  // namespace unipool
