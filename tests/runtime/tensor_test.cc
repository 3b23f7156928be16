#include "runtime/tensor.h"

#include <gtest/gtest.h>

#include <array>

namespace unipool {
namespace {

TEST(Tensor, CountsElementsAndBytes) {
  std::array<double, 6> data = {};
  const Tensor tensor = Tensor::Of(data.data(), {2, 3});
  EXPECT_EQ(tensor.numel(), 6);
  EXPECT_EQ(tensor.bytes(), 48);
  EXPECT_FALSE(tensor.empty());
  EXPECT_EQ(tensor.ShapeString(), "float64[2, 3]");
}

TEST(Tensor, ScalarEmptyAndAbsentAreThreeThings) {
  float value = 1;
  const Tensor scalar = Tensor::Of(&value, {});
  EXPECT_EQ(scalar.numel(), 1);
  EXPECT_FALSE(scalar.absent());
  const Tensor empty = Tensor::Of<float>(nullptr, {0, 5});
  EXPECT_EQ(empty.numel(), 0);
  EXPECT_FALSE(empty.absent());
  EXPECT_TRUE(Tensor{}.absent());
  EXPECT_EQ(Tensor{}.numel(), 0);
  EXPECT_EQ(Tensor{}.bytes(), 0);
}

TEST(Tensor, RowsAreAViewOfTheSameMemory) {
  std::array<int32_t, 6> data = {0, 1, 2, 3, 4, 5};
  const Tensor rows = Tensor::Of(data.data(), {3, 2}).Rows(1, 3);
  EXPECT_EQ(rows.dim(0), 2);
  EXPECT_EQ(rows.as<int32_t>(), data.data() + 2);
  EXPECT_EQ(rows.Rows(2, 2).numel(), 0);
  EXPECT_EQ(Tensor::Of<float>(nullptr, {0, 2}).Rows(0, 0).numel(), 0);
}

TEST(Tensor, ReshapeKeepsTheMemory) {
  std::array<float, 6> data = {};
  const Tensor reshaped = Tensor::Of(data.data(), {3, 2}).Reshape({1, 6, 1});
  EXPECT_EQ(reshaped.rank, 3);
  EXPECT_EQ(reshaped.dim(1), 6);
  EXPECT_EQ(reshaped.data, data.data());
  EXPECT_TRUE(reshaped.SameShape(Tensor::Of(data.data(), {1, 6, 1})));
  EXPECT_FALSE(reshaped.SameShape(Tensor::Of(data.data(), {1, 6})));
}

TEST(TensorDeathTest, RefusesWrongTypesShapesAndRows) {
  std::array<float, 6> data = {};
  const Tensor tensor = Tensor::Of(data.data(), {3, 2});
  EXPECT_DEATH(tensor.as<int32_t>(), "expected int32, got float32.3, 2.");
  EXPECT_DEATH(tensor.Rows(1, 4), "rows .1, 4. of float32.3, 2.");
  EXPECT_DEATH(tensor.Rows(2, 1), "rows .2, 1.");
  EXPECT_DEATH(tensor.Reshape({4}), "float32.3, 2. as float32.4.");
  EXPECT_DEATH(Tensor::Of(data.data(), {3, -2}), "-2");
}

TEST(TensorDeathTest, RefusesAShapeWhoseProductOverflows) {
  float value = 0;
  constexpr int64_t kHuge = int64_t{1} << 33;
  EXPECT_DEATH(Tensor::Of(&value, {kHuge, kHuge}), "overflow");
  EXPECT_EQ(Tensor::Of(&value, {kHuge, 0, kHuge}).numel(), 0);
}

}  // namespace
}  // namespace unipool
