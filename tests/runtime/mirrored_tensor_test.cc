#include "runtime/mirrored_tensor.h"

#include <gtest/gtest.h>

#include "runtime/stream_timer.h"

namespace unipool {
namespace {

TEST(MirroredTensor, IsOneMemoryOnTheCpu) {
  const auto stream = Stream::Create(Device{});
  MirroredTensor numbers = MirroredTensor::Create(Device{}, DType::kInt64, 3).value();
  numbers.on_host().as<int64_t>()[2] = 7;
  numbers.Upload(*stream);
  EXPECT_EQ(numbers.on_device().as<int64_t>()[2], 7);
  EXPECT_EQ(numbers.on_device().as<int64_t>()[0], 0);
  const MirroredTensor moved = std::move(numbers);
  EXPECT_EQ(moved.on_host().as<int64_t>()[2], 7);
}

TEST(MirroredTensor, HoldsNothingAtFirst) { EXPECT_EQ(MirroredTensor().size(), 0); }

TEST(StreamTimer, SumsSectionsAndResetsWhenRead) {
  const auto stream = Stream::Create(Device{}, Stream::Kind::kSide);
  const auto timer = StreamTimer::Create(Device{});
  EXPECT_EQ(timer->ReadAndReset(), 0);
  for (int i = 0; i < 2; ++i) {
    timer->Start(*stream);
    timer->Stop(*stream);
  }
  EXPECT_GT(timer->ReadAndReset(), 0);
  EXPECT_EQ(timer->ReadAndReset(), 0);
}

}  // namespace
}  // namespace unipool
