// Collectives of GPU tensors through host memory, between processes that may share GPUs. The checks
// are in collective_checks.cc.
#include <gtest/gtest.h>

#include <utility>

#include "comm/mpi_communicator.h"
#include "comm/staged_communicator.h"
#include "tests/comm/collective_checks.h"
#include "tests/comm/through_gpu.h"
#include "tests/support/gpu.h"

namespace unipool {
namespace {

using testing::CollectiveCheck;

class StagedMpiCollective : public ::testing::TestWithParam<CollectiveCheck> {};

TEST_P(StagedMpiCollective, HoldsOnEveryRank) {
  SKIP_WITHOUT_GPU();
  auto world = CreateMpiWorld(absl::Seconds(40));
  const Device gpu = testing::GpuOf(world->rank());
  auto staged = CreateStagedCommunicator(std::move(world), gpu).value();
  GetParam().check(*testing::ThroughGpu(std::move(staged), gpu));
}

INSTANTIATE_TEST_SUITE_P(, StagedMpiCollective, ::testing::ValuesIn(testing::CollectiveChecks()),
                         [](const auto& params) { return params.param.claim; });

}  // namespace
}  // namespace unipool
