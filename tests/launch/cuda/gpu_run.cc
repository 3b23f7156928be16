#include "tests/launch/cuda/gpu_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "configs/run.pb.h"
#include "runtime/copy.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"

namespace unipool::testing {

GpuRun::GpuRun() {
  WriteTinyDataset(Path("text"));
  config::Data data;
  data.set_prefix(Path("text"));
  corpus_ = Corpus::Open(data).value();
}

config::Run GpuRun::Settings(Variant variant, int64_t steps) const {
  config::Run run = TinyRun(variant, Path("text"));
  run.set_steps(steps);
  run.mutable_parallel()->set_device(config::Parallel::CUDA);
  run.mutable_model()->set_precision(config::Model::FP32);
  return run;
}

config::Run GpuRun::OnCpu(config::Run run) const {
  run.mutable_parallel()->set_device(config::Parallel::CPU);
  run.mutable_model()->set_precision(config::Model::AUTO);
  return run;
}

Outcome GpuRun::Train(const config::Run& run, int ranks, const End& end) const {
  Outcome outcome;
  OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) {
    const auto world = World::Create(run, std::move(comm));
    ASSERT_OK(world.status());
    const auto trainer = Trainer::Create(run, *corpus_, **world);
    ASSERT_OK(trainer.status());
    const bool first = (*world)->is_first();
    ASSERT_OK((*trainer)->Run([&](const StepRecord& record) {
      if (first) outcome.records.push_back(record);
      return absl::OkStatus();
    }));
    if (first) outcome.weights = ReadWeights((*trainer)->parameters());
    if (end != nullptr) end(**trainer, **world);
  });
  return outcome;
}

std::vector<float> ReadWeights(const ParameterList& parameters) {
  std::vector<float> all;
  for (const Parameter& parameter : parameters.parameters()) {
    const size_t before = all.size();
    all.resize(before + static_cast<size_t>(parameter.numel()));
    ReadTensor(parameter.value, all.data() + before);
  }
  return all;
}

void ExpectSameLosses(const Outcome& actual, const Outcome& expected, double relative) {
  const size_t count = std::min(actual.records.size(), expected.records.size());
  ASSERT_GT(count, 1u);
  for (size_t i = 1; i <= count; ++i) {
    const StepRecord& a = actual.records[actual.records.size() - i];
    const StepRecord& b = expected.records[expected.records.size() - i];
    SCOPED_TRACE(::testing::Message() << "step " << b.step);
    ASSERT_EQ(a.step, b.step);
    const auto near = [&](double x, double y) { EXPECT_NEAR(x, y, relative * std::abs(y)); };
    near(a.lm_loss, b.lm_loss);
    near(a.grad_norm, b.grad_norm);
    near(a.lm_loss + a.pool_loss + a.layer_aux_loss, b.lm_loss + b.pool_loss + b.layer_aux_loss);
    if (a.validation && b.validation) near(a.validation->loss, b.validation->loss);
  }
}

void ExpectSameBits(const Outcome& actual, const Outcome& expected) {
  ASSERT_EQ(actual.records.size(), expected.records.size());
  for (size_t i = 0; i < actual.records.size(); ++i) {
    EXPECT_EQ(actual.records[i].lm_loss, expected.records[i].lm_loss) << i;
    EXPECT_EQ(actual.records[i].pool_loss, expected.records[i].pool_loss) << i;
    EXPECT_EQ(actual.records[i].grad_norm, expected.records[i].grad_norm) << i;
  }
  EXPECT_EQ(actual.weights, expected.weights);
}

}  // namespace unipool::testing
