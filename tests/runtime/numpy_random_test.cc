#include "runtime/numpy_random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace unipool {
namespace {

using ::testing::ElementsAre;

std::vector<int32_t> Shuffled(int32_t count, NumpyRandom& random) {
  std::vector<int32_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  random.Shuffle(absl::MakeSpan(values));
  return values;
}

// model/method.md#sample-order; tests/data/megatron_reference.py --numpy compares many more.
TEST(NumpyRandom, ShufflesAsNumpyDoes) {
  NumpyRandom random(1234);
  EXPECT_THAT(Shuffled(10, random), ElementsAre(7, 2, 9, 1, 0, 8, 4, 5, 6, 3));
  EXPECT_THAT(Shuffled(12, random), ElementsAre(3, 11, 2, 1, 7, 5, 4, 0, 8, 6, 10, 9));
}

TEST(NumpyRandom, ZeroAndOneElementsConsumeNoRandomWord) {
  NumpyRandom random(1234);
  EXPECT_THAT(Shuffled(0, random), ElementsAre());
  EXPECT_THAT(Shuffled(1, random), ElementsAre(0));
  EXPECT_EQ(random.UniformInt(0), 0u);
  EXPECT_THAT(Shuffled(10, random), ElementsAre(7, 2, 9, 1, 0, 8, 4, 5, 6, 3));
}

TEST(NumpyRandom, UniformIntIncludesBothEnds) {
  NumpyRandom random(5);
  std::vector<int> counts(6);
  for (int i = 0; i < 6000; ++i) ++counts[random.UniformInt(5)];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 150);
}

// numpy.random.RandomState(42).standard_normal(5).
TEST(NumpyRandom, DrawsNumpysNormals) {
  NumpyRandom random(42);
  for (const double expected : {0.4967141530112327, -0.13826430117118466, 0.6476885381006925,
                                1.5230298564080254, -0.23415337472333597}) {
    EXPECT_NEAR(random.StandardNormal(), expected, 1e-15);
  }
}

}  // namespace
}  // namespace unipool
