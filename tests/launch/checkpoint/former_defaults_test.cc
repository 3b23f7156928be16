#include "launch/checkpoint/former_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "configs/run.pb.h"
#include "launch/config/run_config.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;

config::Run Resolved(int experts) {
  config::Run run;
  run.mutable_model()->set_hidden(64);
  run.mutable_model()->set_layers(2);
  run.mutable_model()->set_heads(2);
  run.mutable_pool()->set_experts(experts);
  ResolveDefaults(&run);
  return run;
}

config::Run Former(config::Run run) {
  run.mutable_model()->set_init_std(0.01f);
  run.mutable_pool()->set_pool_loss(0.01);
  run.mutable_pool()->set_router(config::Pool::NORM);
  return run;
}

TEST(AdoptFormerDefaults, KeepsThoseOfTheCheckpoint) {
  for (const int experts : {4, 32}) {
    config::Run run = Resolved(experts);
    const config::Run saved = Former(run);
    EXPECT_THAT(AdoptFormerDefaults(saved, &run),
                HasSubstr("keeps model.init_std = 0.01, pool.pool_loss = 0.01"));
    EXPECT_EQ(run.SerializeAsString(), saved.SerializeAsString());
    EXPECT_EQ(AdoptFormerDefaults(saved, &run), "");
  }
}

TEST(AdoptFormerDefaults, LeavesOtherValues) {
  config::Run run = Resolved(32);
  run.mutable_model()->set_init_std(0.02f);
  run.mutable_pool()->set_pool_loss(0.02);
  const std::string before = run.SerializeAsString();
  EXPECT_EQ(AdoptFormerDefaults(Former(run), &run), "");
  EXPECT_EQ(run.SerializeAsString(), before);
  config::Run present = Resolved(32);
  EXPECT_EQ(AdoptFormerDefaults(run, &present), "");
}

TEST(ResolveDefaults, OfRoutersAndWeightsDependOnTheModel) {
  EXPECT_EQ(Resolved(7).pool().router(), config::Pool::SOFTMAX);
  EXPECT_EQ(Resolved(8).pool().router(), config::Pool::NORM);
  EXPECT_EQ(Resolved(8).model().init_std(), 0.0790569415f);
  EXPECT_EQ(Resolved(8).pool().pool_loss(), 0.001);
}

}  // namespace
}  // namespace unipool
