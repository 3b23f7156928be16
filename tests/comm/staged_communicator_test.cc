// Collectives of GPU tensors through host memory, between threads of this process.
#include "comm/staged_communicator.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/copy.h"
#include "tests/comm/collective_checks.h"
#include "tests/comm/through_gpu.h"
#include "tests/support/gpu.h"
#include "tests/support/on_ranks.h"

namespace unipool {
namespace {

using testing::CollectiveCheck;
using testing::GpuOf;

// Runs `body(comm, gpu)` on ranks that are distributed over all GPUs.
template <typename Body>
void OnGpuRanks(int ranks, Body body) {
  testing::OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> host) {
    const Device gpu = GpuOf(host->rank());
    body(CreateStagedCommunicator(std::move(host), gpu).value(), gpu);
  });
}

class StagedCollective : public ::testing::TestWithParam<std::tuple<CollectiveCheck, int>> {};

TEST_P(StagedCollective, HoldsOnEveryRank) {
  SKIP_WITHOUT_GPU();
  const auto& [check, ranks] = GetParam();
  OnGpuRanks(ranks, [&](std::unique_ptr<Communicator> staged, Device gpu) {
    check.check(*testing::ThroughGpu(std::move(staged), gpu));
  });
}

INSTANTIATE_TEST_SUITE_P(, StagedCollective,
                         ::testing::Combine(::testing::ValuesIn(testing::CollectiveChecks()),
                                            ::testing::Values(1, 2, 4, 7)),
                         [](const auto& params) {
                           return std::get<0>(params.param).claim + std::string("On") +
                                  std::to_string(std::get<1>(params.param));
                         });

// A tensor with `values` on the GPU, and its memory.
template <typename T>
struct OnGpu {
  OnGpu(Device gpu, std::vector<T> host, Stream& stream)
      : values(std::move(host)),
        memory(Buffer::Allocate(gpu, static_cast<int64_t>(values.size() * sizeof(T))).value()) {
    tensor = Tensor::Of(static_cast<T*>(memory.data()), {static_cast<int64_t>(values.size())}, gpu);
    CopyTensor(Tensor::Of(values.data(), {tensor.numel()}), tensor, stream);
  }
  std::vector<T> Read() {
    ReadTensor(tensor, values.data());
    return values;
  }
  std::vector<T> values;
  Buffer memory;
  Tensor tensor;
};

TEST(StagedCommunicator, BFloat16RowsAreCopiedBitForBit) {
  SKIP_WITHOUT_GPU();
  OnGpuRanks(3, [](std::unique_ptr<Communicator> comm, Device gpu) {
    const auto stream = Stream::Create(gpu);
    // Row r goes to rank r. Rows contain NaN patterns, since nothing computes with them.
    const auto row = [](int from, int to) {
      return std::vector<BFloat16>{BFloat16{static_cast<uint16_t>(0x7f80 + from)},
                                   BFloat16{static_cast<uint16_t>(0x4000 + to)}};
    };
    std::vector<BFloat16> sent, expected;
    for (int r = 0; r < 3; ++r) {
      for (const BFloat16 x : row(comm->rank(), r)) sent.push_back(x);
      for (const BFloat16 x : row(r, comm->rank())) expected.push_back(x);
    }
    OnGpu<BFloat16> input(gpu, sent, *stream), output(gpu, std::vector<BFloat16>(6), *stream);
    const std::vector<int64_t> ones(3, 1);
    comm->AllToAllV(input.tensor.Reshape({3, 2}), ones, output.tensor.Reshape({3, 2}), ones,
                    *stream);
    const std::vector<BFloat16> got = output.Read();
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].bits, expected[i].bits) << i;
  });
}

TEST(StagedCommunicator, CallsOnAStreamRunInOrder) {
  SKIP_WITHOUT_GPU();
  OnGpuRanks(4, [](std::unique_ptr<Communicator> comm, Device gpu) {
    const auto first = Stream::Create(gpu);
    const auto second = Stream::Create(gpu, Stream::Kind::kSide);
    OnGpu<float> x(gpu, {1.0f}, *first), all(gpu, std::vector<float>(4), *first);
    OnGpu<int32_t> y(gpu, std::vector<int32_t>(1 << 20, comm->rank()), *second);
    comm->AllReduce(x.tensor, ReduceOp::kSum, *first);
    comm->AllReduce(y.tensor, ReduceOp::kMax, *second);
    comm->AllReduce(x.tensor, ReduceOp::kSum, *first);
    comm->AllGather(x.tensor, all.tensor, *first);
    EXPECT_EQ(all.Read(), std::vector<float>(4, 16.0f));
    EXPECT_EQ(y.Read(), std::vector<int32_t>(1 << 20, 3));
  });
}

TEST(StagedCommunicator, CallsOnHostTensorsFollowTheStream) {
  SKIP_WITHOUT_GPU();
  OnGpuRanks(2, [](std::unique_ptr<Communicator> comm, Device gpu) {
    const auto stream = Stream::Create(gpu);
    OnGpu<int64_t> on_gpu(gpu, {comm->rank() + 1}, *stream);
    int64_t x = 0;
    CopyTensor(on_gpu.tensor, Tensor::Of(&x, {1}), *stream);
    comm->AllReduce(Tensor::Of(&x, {1}), ReduceOp::kSum, *stream);
    CopyTensor(Tensor::Of(&x, {1}), on_gpu.tensor, *stream);
    EXPECT_EQ(on_gpu.Read(), std::vector<int64_t>{3});
  });
}

TEST(StagedCommunicatorDeathTest, ATensorOfAnotherGpuIsRefused) {
  SKIP_WITHOUT_GPU();
  const Device gpu = GpuOf(0);
  const Device other{DeviceType::kCuda, 7};
  float x = 0;
  const auto call = [&] {
    OnGpuRanks(1, [&](std::unique_ptr<Communicator> comm, Device) {
      const auto stream = Stream::Create(gpu);
      comm->AllReduce(Tensor::Of(&x, {1}, other), ReduceOp::kSum, *stream);
    });
  };
  EXPECT_DEATH(call(), "a tensor on cuda:7 for a rank on cuda:0");
}

}  // namespace
}  // namespace unipool
