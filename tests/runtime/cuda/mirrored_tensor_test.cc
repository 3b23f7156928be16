#include "runtime/mirrored_tensor.h"

#include <gtest/gtest.h>

#include "runtime/context.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
#include "runtime/stream_timer.h"
#include "tests/support/gpu.h"

namespace unipool::testing {
namespace {

constexpr Device kGpu{DeviceType::kCuda, 0};

TEST(CudaMirroredTensor, ValuesGoToTheDeviceAndBack) {
  SKIP_WITHOUT_GPU();
  const auto stream = Stream::Create(kGpu);
  Context ctx;
  ctx.stream = stream.get();
  MirroredTensor a = MirroredTensor::Create(kGpu, DType::kInt64, 4).value();
  MirroredTensor b = MirroredTensor::Create(kGpu, DType::kInt64, 4).value();
  EXPECT_EQ(a.on_device().device, kGpu);
  EXPECT_EQ(a.on_host().device, Device{});
  for (int64_t i = 0; i < 4; ++i) a.on_host().as<int64_t>()[i] = i + 1;
  a.Upload(*stream);
  Compute(ctx, Copy{.x = a.on_device(), .y = b.on_device()});
  b.Download(3, *stream);
  WaitForHost(*stream);
  EXPECT_EQ(b.on_host().as<int64_t>()[2], 3);
  EXPECT_EQ(b.on_host().as<int64_t>()[3], 0);
  b.DownloadNow(*stream);
  EXPECT_EQ(b.on_host().as<int64_t>()[3], 4);
}

TEST(CudaStreamTimer, SumsSectionsAndResetsWhenRead) {
  SKIP_WITHOUT_GPU();
  const auto stream = Stream::Create(kGpu);
  const auto timer = StreamTimer::Create(kGpu);
  EXPECT_EQ(timer->ReadAndReset(), 0);
  for (int i = 0; i < 3; ++i) {
    timer->Start(*stream);
    timer->Stop(*stream);
  }
  EXPECT_GT(timer->ReadAndReset(), 0);
  EXPECT_EQ(timer->ReadAndReset(), 0);
}

}  // namespace
}  // namespace unipool::testing
