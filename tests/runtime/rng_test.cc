#include "runtime/rng.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <set>
#include <vector>

namespace unipool {
namespace {

using Words = std::array<uint32_t, 4>;

// The test vectors of Random123 for philox4x32-10.
TEST(Rng, AgreesWithThePublishedPhiloxVectors) {
  EXPECT_EQ(Rng(0, 0).Block(0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Rng(~0ull, ~0ull).Block(~0ull),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Rng(0x299f31d0a4093822, 0x0370734413198a2e).Block(0x85a308d3243f6a88),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, StreamIdsAreFnv1a) {
  EXPECT_EQ(StreamId(""), 0xcbf29ce484222325u);
  EXPECT_EQ(StreamId("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(StreamId("foobar"), 0x85944171f73967e8u);
}

std::vector<float> Normals(const Rng& rng, size_t count, int threads = 1) {
  std::vector<float> values(count, -99.0f);
  omp_set_num_threads(threads);
  rng.FillNormal(1.0f, Tensor::Of(values.data(), {static_cast<int64_t>(count)}));
  omp_set_num_threads(omp_get_num_procs());
  return values;
}

double Moment(const std::vector<float>& values, int power) {
  double sum = 0;
  for (const float value : values) sum += std::pow(double{value}, power);
  return sum / static_cast<double>(values.size());
}

TEST(Rng, NormalsHaveTheirMoments) {
  const std::vector<float> values = Normals(Rng(1, 2), 1000000);
  // Five standard errors of each mean: sqrt((E x^2p - (E x^p)^2) / n).
  EXPECT_NEAR(Moment(values, 1), 0, 5e-3);
  EXPECT_NEAR(Moment(values, 2), 1, 5 * std::sqrt(2.0) * 1e-3);
  EXPECT_NEAR(Moment(values, 3), 0, 5 * std::sqrt(15.0) * 1e-3);
  EXPECT_NEAR(Moment(values, 4), 3, 5 * std::sqrt(96.0) * 1e-3);
  double product = 0;
  for (size_t i = 0; i + 1 < values.size(); ++i) product += double{values[i]} * values[i + 1];
  EXPECT_NEAR(product * 1e-6, 0, 5e-3);
}

TEST(Rng, ValuesDoNotDependOnLengthOrThreads) {
  const std::vector<float> whole = Normals(Rng(7, 8), 1001, 3);
  for (const size_t count : {size_t{1}, size_t{2}, size_t{501}}) {
    const std::vector<float> part = Normals(Rng(7, 8), count);
    EXPECT_EQ(part, std::vector<float>(whole.begin(), whole.begin() + static_cast<int>(count)));
  }
}

TEST(Rng, SeedsStreamsAndIndicesGiveOtherNumbers) {
  std::set<uint64_t> words;
  for (uint64_t i = 0; i < 10; ++i) {
    for (uint64_t k = 0; k < 10; ++k) {
      for (uint64_t s = 0; s < 10; ++s) words.insert(Rng(k, s).Word64(i));
    }
  }
  EXPECT_EQ(words.size(), 1000u);
}

TEST(Rng, UniformHasItsMomentsAndRange) {
  const Rng rng(3, 4);
  double sum = 0, squares = 0;
  for (uint64_t i = 0; i < 100000; ++i) {
    const double u = rng.Uniform(i);
    ASSERT_TRUE(u > 0 && u < 1);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / 1e5, 0.5, 5 * std::sqrt(1 / 12.0 / 1e5));
  EXPECT_NEAR(squares / 1e5, 1 / 3.0, 5 * std::sqrt(4 / 45.0 / 1e5));
}

TEST(Rng, FillUniformNeverGivesItsUpperEnd) {
  const Rng rng(16390493, 0);  // its first word begins with 25 ones: as a float it rounds to 1
  ASSERT_EQ(rng.Word64(0) >> 39, 0x1FFFFFFu);
  std::vector<float> values(2);
  rng.FillUniform(0, 1, Tensor::Of(values.data(), {2}));
  EXPECT_EQ(values[0], std::nextafter(1.0f, 0.0f));
  rng.FillUniform(-3, -2, Tensor::Of(values.data(), {2}));
  EXPECT_LT(values[0], -2);
}

}  // namespace
}  // namespace unipool
