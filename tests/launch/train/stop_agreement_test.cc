#include "launch/train/stop_agreement.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "configs/run.pb.h"
#include "runtime/device.h"
#include "tests/support/on_ranks.h"

namespace unipool {
namespace {

TEST(StopAgreement, OneRankStopsAll) {
  testing::OnRanksOwned(3, [](std::unique_ptr<Communicator> comm) {
    const auto world = World::Create(config::Run(), std::move(comm)).value();
    const auto stream = Stream::Create(Device{});
    bool wants_stop = false;
    StopAgreement agreement;
    agreement.set_wants_stop([&] { return wants_stop; });
    EXPECT_FALSE(agreement.Agree(*world, *stream));
    wants_stop = world->rank() == 2;
    EXPECT_TRUE(agreement.Agree(*world, *stream));
    wants_stop = false;
    EXPECT_TRUE(agreement.Agree(*world, *stream));  // for good
  });
}

TEST(StopAgreement, CountsTheVotesOfAnotherReduction) {
  StopAgreement agreement;
  EXPECT_EQ(agreement.Vote(), 0);  // without a callback
  agreement.set_wants_stop([] { return true; });
  EXPECT_EQ(agreement.Vote(), 1);
  EXPECT_FALSE(agreement.stopped());
  agreement.Count(1);
  EXPECT_TRUE(agreement.stopped());
}

}  // namespace
}  // namespace unipool
