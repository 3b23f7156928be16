// Collectives between threads of this process. The checks are in collective_checks.cc.
#include <gtest/gtest.h>

#include <tuple>

#include "tests/comm/collective_checks.h"
#include "tests/support/on_ranks.h"

namespace unipool {
namespace {

using testing::CollectiveCheck;

using Params = std::tuple<CollectiveCheck, int>;

class LocalCollective : public ::testing::TestWithParam<Params> {};

TEST_P(LocalCollective, HoldsOnEveryRank) {
  const auto& [check, ranks] = GetParam();
  testing::OnRanks(ranks, check.check);
}

INSTANTIATE_TEST_SUITE_P(, LocalCollective,
                         ::testing::Combine(::testing::ValuesIn(testing::CollectiveChecks()),
                                            ::testing::Values(1, 2, 4, 7)),
                         [](const ::testing::TestParamInfo<Params>& params) {
                           return std::get<0>(params.param).claim + std::string("On") +
                                  std::to_string(std::get<1>(params.param));
                         });

}  // namespace
}  // namespace unipool
