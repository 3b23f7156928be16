// The job that deadline_mpi_test runs: its last rank does not take part in the second operation.
#include <glog/logging.h>

#include <chrono>
#include <thread>

#include "comm/mpi_communicator.h"

int main(int, char** argv) {
  using namespace std::chrono_literals;
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  unipool::InitializeMpi();
  const auto world = unipool::CreateMpiWorld(absl::Milliseconds(500));
  const auto stream = unipool::Stream::Create(unipool::Device{});
  world->Barrier();
  if (world->rank() == world->size() - 1) std::this_thread::sleep_for(60s);
  float x = 1;
  world->AllReduce(unipool::Tensor::Of(&x, {1}), unipool::ReduceOp::kSum, *stream);
  unipool::FinalizeMpi();
  return 0;
}
