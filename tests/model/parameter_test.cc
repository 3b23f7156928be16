#include "model/parameter.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ToVector;
using testing::Workbench;

Parameter Make(const std::string& name, std::vector<int64_t> shape, ParameterKind kind,
               float init_std, bool decay) {
  return {
      .name = name, .shape = std::move(shape), .kind = kind, .init_std = init_std, .decay = decay};
}

Parameter* AddStacked(ParameterList& list, const std::string& name, std::vector<int64_t> shape) {
  Parameter parameter = Make(name, std::move(shape), ParameterKind::kReplicated, 0.1f, true);
  parameter.stacked = true;
  return list.Add(std::move(parameter));
}

TEST(ParameterList, PutsDecayedParametersFirstAndKeepsStackedOnesTogether) {
  ParameterList list;
  const Parameter* norm = list.Add(Make("norm", {3}, ParameterKind::kReplicated, 0, false));
  const Parameter* a = list.Add(Make("a", {2, 3}, ParameterKind::kReplicated, 0.1f, true));
  const Parameter* b = AddStacked(list, "b", {1, 3});
  ASSERT_OK(list.Allocate(Device{}, 1));
  EXPECT_EQ(a->value.data, list.values(ParameterKind::kReplicated).data);
  EXPECT_EQ(b->value.as<float>(), a->value.as<float>() + 6);
  EXPECT_EQ(norm->value.as<float>(), a->value.as<float>() + 16);
  EXPECT_EQ(list.decayed(ParameterKind::kReplicated), 16);
}

TEST(ParameterList, StartsParametersAtMultiplesOfSixteenBytesInEachType) {
  ParameterList list;
  for (const char* name : {"a", "b", "c"}) {
    list.Add(Make(name, {1}, ParameterKind::kReplicated, 0.1f, true));
    list.Add(Make(std::string(name) + "'", {9}, ParameterKind::kExpert, 0, false));
  }
  ASSERT_OK(list.Allocate(Device{}, 3, DType::kBFloat16));
  for (const Parameter& parameter : list.parameters()) {
    for (const Tensor& tensor : {parameter.value, parameter.grad, parameter.weight}) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % 16, 0) << parameter.name;
    }
  }
}

TEST(ParameterList, AWeightIsTheValueOrItsRoundedCopy) {
  ParameterList list;
  Parameter exact = Make("exact", {3}, ParameterKind::kReplicated, 0.1f, true);
  exact.precise = true;
  const Parameter* precise = list.Add(std::move(exact));
  const Parameter* rounded = list.Add(Make("a", {5}, ParameterKind::kReplicated, 0.1f, true));
  ASSERT_OK(list.Allocate(Device{}, 1, DType::kBFloat16));
  list.Initialize(7);
  Workbench bench;
  list.RoundWeights(bench.ctx());
  EXPECT_EQ(precise->weight.data, precise->value.data);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(rounded->weight.as<BFloat16>()[i].bits,
              BFloat16::From(rounded->value.as<float>()[i]).bits);
  }
}

TEST(ParameterList, PadsReplicatedValuesToWholeShards) {
  ParameterList list;
  list.Add(Make("a", {10}, ParameterKind::kReplicated, 0.1f, true));
  list.Add(Make("e", {10}, ParameterKind::kExpert, 0.1f, true));
  ASSERT_OK(list.Allocate(Device{}, 7));
  EXPECT_EQ(list.values(ParameterKind::kReplicated).numel(), 7 * 8);
  EXPECT_EQ(list.values(ParameterKind::kExpert).numel(), 16);
}

TEST(ParameterList, StatesStartAtZeroAndAreNeitherTrainedNorDecayed) {
  ParameterList list;
  list.Add(Make("a", {10}, ParameterKind::kReplicated, 0.1f, true));
  const Parameter* state = list.Add(Make("b", {3}, ParameterKind::kState, 0, false));
  ASSERT_OK(list.Allocate(Device{}, 4));
  state->value.as<float>()[1] = 5;
  list.Initialize(7);
  EXPECT_EQ(ToVector(state->value), std::vector<float>(3, 0.0f));
  EXPECT_TRUE(state->grad.absent());
  EXPECT_TRUE(list.grads(ParameterKind::kState).absent());
  EXPECT_EQ(list.values(ParameterKind::kReplicated).numel(), 4 * 8);
  EXPECT_EQ(list.values(ParameterKind::kState).numel(), 8);
}

TEST(ParameterList, InitialValuesDependOnSeedAndNameAlone) {
  ParameterList one, two;
  const Parameter* in_one = one.Add(Make("x", {50}, ParameterKind::kExpert, 0.5f, true));
  two.Add(Make("before", {9}, ParameterKind::kExpert, 0.5f, true));
  const Parameter* in_two = two.Add(Make("x", {50}, ParameterKind::kExpert, 0.5f, true));
  const Parameter* ones = two.Add(Make("norm", {4}, ParameterKind::kReplicated, 0, false));
  ASSERT_OK(one.Allocate(Device{}, 1));
  ASSERT_OK(two.Allocate(Device{}, 3));
  one.Initialize(7);
  two.Initialize(7);
  EXPECT_EQ(ToVector(in_one->value), ToVector(in_two->value));
  EXPECT_EQ(ToVector(ones->value), std::vector<float>(4, 1.0f));
  two.Initialize(8);
  EXPECT_NE(ToVector(in_one->value), ToVector(in_two->value));
}

}  // namespace
}  // namespace unipool
