// A rank that misses the deadline ends the process with an error that names it.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "comm/local_communicator.h"

namespace unipool {
namespace {

// Runs `body` on all ranks except `absent`.
template <typename Body>
void RunWithout(int absent, int ranks, Body body) {
  const auto communicators = CreateLocalCommunicators(ranks, absl::Milliseconds(200));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    if (r != absent) threads.emplace_back([&, r] { body(*communicators[r]); });
  }
  for (std::thread& thread : threads) thread.join();
}

class DeadlineDeathTest : public ::testing::Test {
 protected:
  DeadlineDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(DeadlineDeathTest, NamesTheMissingRank) {
  const auto body = [](Communicator& comm) {
    const auto stream = Stream::Create(Device{});
    float x = 1;
    comm.AllReduce(Tensor::Of(&x, {1}), ReduceOp::kSum, *stream);
  };
  EXPECT_DEATH(RunWithout(1, 3, body),
               "rank [02] on [^ ]+ waited 200ms for rank 1 in AllReduce #0 of group 'world'");
}

TEST_F(DeadlineDeathTest, NamesTheNumberOfTheOperation) {
  const auto body = [](Communicator& comm) {
    comm.Barrier();
    comm.Barrier();
    if (comm.rank() == 0) comm.Barrier();
  };
  EXPECT_DEATH(RunWithout(-1, 2, body), "rank 0 on [^ ]+ waited 200ms for rank 1 in Barrier #2");
}

TEST_F(DeadlineDeathTest, AppliesOnASideStream) {
  const auto body = [](Communicator& comm) {
    const auto stream = Stream::Create(Device{}, Stream::Kind::kSide);
    float x = 1;
    comm.Broadcast(Tensor::Of(&x, {1}), 0, *stream);
  };
  EXPECT_DEATH(RunWithout(0, 2, body), "rank 1 on [^ ]+ waited 200ms for rank 0 in Broadcast #0");
}

TEST_F(DeadlineDeathTest, RanksInDifferentOperationsAreReported) {
  const auto body = [](Communicator& comm) {
    const auto stream = Stream::Create(Device{});
    float x = 1;
    if (comm.rank() == 0) comm.Barrier();
    if (comm.rank() == 1) comm.AllReduce(Tensor::Of(&x, {1}), ReduceOp::kSum, *stream);
  };
  EXPECT_DEATH(RunWithout(-1, 2, body), "call different operations as #0 of group 'world'");
}

}  // namespace
}  // namespace unipool
