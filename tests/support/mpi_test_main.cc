// main() of GoogleTest programs whose ranks are processes. All ranks fail if one does.
#include <glog/logging.h>
#include <gtest/gtest.h>

#include "comm/mpi_communicator.h"
#include "runtime/stream.h"

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  ::testing::InitGoogleTest(&argc, argv);
  unipool::InitializeMpi();
  int64_t failed = RUN_ALL_TESTS();
  {
    const auto world = unipool::CreateMpiWorld(absl::Seconds(60));
    const auto stream = unipool::Stream::Create(unipool::Device{});
    world->AllReduce(unipool::Tensor::Of(&failed, {1}), unipool::ReduceOp::kMax, *stream);
  }
  unipool::FinalizeMpi();
  return static_cast<int>(failed);
}
