#include "comm/token_exchange.h"

#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/on_ranks.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::OnRanks;
using testing::ToVector;
using testing::Workbench;

constexpr int64_t kHidden = 5;

// A global batch, told apart by token: rank r has tokens[r] of it, in rank order. Choice j of
// global token g goes to expert id(g, j).
struct Case {
  std::string name;
  std::vector<int64_t> tokens;
  int64_t top_k;
  ExpertMap map;
  std::function<int64_t(int64_t, int64_t)> id;

  int ranks() const { return static_cast<int>(tokens.size()); }
  int64_t first_token(int rank) const {
    return std::accumulate(tokens.begin(), tokens.begin() + rank, int64_t{0});
  }
  // The same batch and choices on one rank that owns every expert.
  Case OnOneRank() const {
    return Case{name, {first_token(ranks())}, top_k, ExpertMap::Blocks(map.experts(), 1), id};
  }
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

std::vector<Case> Cases() {
  const auto spread = [](int experts) {
    return [=](int64_t g, int64_t j) { return (g * g + 3 * g + j) % experts; };
  };
  const auto to_one = [](int64_t, int64_t) { return 2; };
  const auto to_even = [](int64_t g, int64_t j) { return 2 * ((g + j) % 3); };
  const ExpertMap scattered = ExpertMap::FromOwners({3, 1, 0, 3, 3, 0, 1, 3, 1}, 4);
  return {
      {"OneRank", {9}, 2, ExpertMap::Blocks(4, 1), spread(4)},
      {"TwoRanks", {8, 5}, 1, ExpertMap::Blocks(4, 2), spread(4)},
      {"ThreeChoices", {6, 6, 6, 6}, 3, ExpertMap::Blocks(8, 4), spread(8)},
      {"SevenExpertsOnThreeRanks", {4, 7, 5}, 2, ExpertMap::Blocks(7, 3), spread(7)},
      {"TwoExpertsOnFourRanks", {3, 3, 3, 3}, 1, ExpertMap::Blocks(2, 4, 1), spread(2)},
      {"AllToOneExpert", {5, 4, 3}, 1, ExpertMap::Blocks(6, 3), to_one},
      {"EmptyExperts", {5, 6, 7}, 2, ExpertMap::Blocks(6, 3), to_even},
      {"RanksWithoutTokens", {0, 6, 0, 1}, 2, ExpertMap::Blocks(5, 4), spread(5)},
      {"NoTokensAtAll", {0, 0}, 2, ExpertMap::Blocks(3, 2), spread(3)},
      {"ScatteredOwners", {70, 1, 33, 18}, 3, scattered, spread(9)},
      {"SevenRanks", {2, 3, 4, 5, 6, 7, 8}, 2, ExpertMap::Blocks(17, 7, 3), spread(17)},
  };
}

// One layer on one rank: the tensors of the exchange, and experts that multiply each column by a
// number of their own.
struct Layer {
  Layer(const Case& test_case, Communicator& group)
      : c(test_case), rank(group.rank()), tokens(c.tokens[rank]), exchange(group) {
    ids = bench.arena().New<int32_t>({tokens, c.top_k});
    for (int64_t i = 0; i < ids.numel(); ++i) {
      ids.as<int32_t>()[i] =
          static_cast<int32_t>(c.id(c.first_token(rank) + i / c.top_k, i % c.top_k));
    }
    x = Slice("x", kHidden);
    dy = Slice("dy", kHidden);
    gates = Slice("gates", c.top_k);
    factors = bench.Random("factors", {c.map.experts(), kHidden});
    y = bench.Poisoned({tokens, kHidden});
    dx = bench.Poisoned({tokens, kHidden});
    dgates = bench.Poisoned({tokens, c.top_k});
  }

  // This rank's rows of a random tensor over the global batch.
  Tensor Slice(const char* name, int64_t columns) {
    const int64_t all = c.first_token(c.ranks());
    return bench.Random(name, {all, columns})
        .Rows(c.first_token(rank), c.first_token(rank) + tokens);
  }

  void Plan() { plan = exchange.Plan(bench.ctx(), c.map, ids); }

  // Rows of the expert in slot s times that expert's factors.
  void RunExperts(const Tensor& rows) {
    const int64_t* offsets = plan.offsets.as<int64_t>();
    for (size_t s = 0; s < c.map.owned(rank).size(); ++s) {
      const float* factor = factors.as<float>() + c.map.owned(rank)[s] * kHidden;
      for (int64_t i = offsets[s] * kHidden; i < offsets[s + 1] * kHidden; ++i) {
        rows.as<float>()[i] *= factor[i % kHidden];
      }
    }
  }

  void Forward() {
    const Tensor rows = exchange.Dispatch(bench.ctx(), plan, x);
    RunExperts(rows);
    exchange.Combine(bench.ctx(), plan, rows, gates, y, /*add_to_y=*/false, &returned);
  }

  void Backward() {
    const Tensor drows = exchange.CombineBackward(bench.ctx(), plan, dy, gates, returned, dgates);
    RunExperts(drows);
    exchange.DispatchBackward(bench.ctx(), plan, drows, dx, /*add_to_dx=*/false);
  }

  const Case& c;
  const int rank;
  const int64_t tokens;
  Workbench bench;
  TokenExchange exchange;
  Tensor ids, x, dy, gates, factors, y, dx, dgates, returned;
  DispatchPlan plan;
};

// x[g, column] = 8 g + column; gates 1, 2, 4; expert e multiplies by e + 1: every value is exact.
void FillWithCodes(Layer& layer) {
  const int64_t first = layer.c.first_token(layer.rank);
  for (int64_t i = 0; i < layer.x.numel(); ++i) {
    layer.x.as<float>()[i] = static_cast<float>(8 * (first + i / kHidden) + i % kHidden);
  }
  for (int64_t i = 0; i < layer.gates.numel(); ++i) {
    layer.gates.as<float>()[i] = static_cast<float>(1 << i % layer.c.top_k);
  }
  for (int64_t i = 0; i < layer.factors.numel(); ++i) {
    layer.factors.as<float>()[i] = static_cast<float>(i / kHidden + 1);
  }
}

class TokenExchangeTest : public ::testing::TestWithParam<Case> {
 protected:
  // Runs `body(layer)` on every rank of the case.
  void OnLayers(const std::function<void(Layer&)>& body) {
    OnRanks(GetParam().ranks(), [&](Communicator& group) {
      Layer layer(GetParam(), group);
      body(layer);
    });
  }
};

TEST_P(TokenExchangeTest, EveryTokenMeetsItsExperts) {
  OnLayers([](Layer& layer) {
    FillWithCodes(layer);
    layer.Plan();
    layer.Forward();
    for (int64_t t = 0; t < layer.tokens; ++t) {
      const int64_t token = layer.c.first_token(layer.rank) + t;
      int64_t factor = 0;
      for (int64_t j = 0; j < layer.c.top_k; ++j) factor += (layer.c.id(token, j) + 1) << j;
      for (int64_t h = 0; h < kHidden; ++h) {
        EXPECT_EQ(layer.y.as<float>()[t * kHidden + h],
                  static_cast<float>(factor * (8 * token + h)));
      }
    }
  });
}

TEST_P(TokenExchangeTest, RowsOfAnExpertAreInTheOrderOfTheGlobalBatch) {
  OnLayers([](Layer& layer) {
    FillWithCodes(layer);
    layer.Plan();
    const Tensor rows = layer.exchange.Dispatch(layer.bench.ctx(), layer.plan, layer.x);
    std::vector<float> expected;
    std::vector<int64_t> offsets = {0};
    for (const int expert : layer.c.map.owned(layer.rank)) {
      for (int64_t g = 0; g < layer.c.first_token(layer.c.ranks()); ++g) {
        for (int64_t j = 0; j < layer.c.top_k; ++j) {
          if (layer.c.id(g, j) != expert) continue;
          for (int64_t h = 0; h < kHidden; ++h) expected.push_back(static_cast<float>(8 * g + h));
        }
      }
      offsets.push_back(static_cast<int64_t>(expected.size()) / kHidden);
    }
    EXPECT_EQ(ToVector(rows), expected);
    const int64_t* seen = layer.plan.offsets.as<int64_t>();
    EXPECT_EQ(std::vector<int64_t>(seen, seen + layer.plan.offsets.numel()), offsets);
    EXPECT_EQ(layer.plan.received, offsets.back());
  });
}

TEST_P(TokenExchangeTest, ForwardAndBackwardHaveTheBitsOfOneRank) {
  const Case whole = GetParam().OnOneRank();
  OnRanks(1, [&](Communicator& alone) {
    Layer expected(whole, alone);
    expected.Plan();
    expected.Forward();
    expected.Backward();
    OnLayers([&](Layer& layer) {
      layer.Plan();
      layer.Forward();
      layer.Backward();
      const int64_t begin = layer.c.first_token(layer.rank), end = begin + layer.tokens;
      EXPECT_EQ(ToVector(layer.y), ToVector(expected.y.Rows(begin, end)));
      EXPECT_EQ(ToVector(layer.dx), ToVector(expected.dx.Rows(begin, end)));
      EXPECT_EQ(ToVector(layer.dgates), ToVector(expected.dgates.Rows(begin, end)));
    });
  });
}

TEST_P(TokenExchangeTest, OnlyThePlanAndWhatIsReturnedStayInTheArena) {
  OnLayers([](Layer& layer) {
    layer.Plan();
    const auto rounded = [](const Tensor& t) { return (t.bytes() + 63) / 64 * 64; };
    const int64_t before = layer.bench.arena().used_bytes();
    layer.Forward();
    const bool alone = layer.c.ranks() == 1;
    const int64_t rows = rounded(Tensor::Of<float>(nullptr, {layer.plan.received, kHidden}));
    const int64_t returned = alone ? 0 : rounded(layer.returned);
    EXPECT_EQ(layer.bench.arena().used_bytes() - before, rows + returned);
    layer.Backward();
    EXPECT_EQ(layer.bench.arena().used_bytes() - before, rows + returned + (alone ? 0 : rows));
  });
}

INSTANTIATE_TEST_SUITE_P(, TokenExchangeTest, ::testing::ValuesIn(Cases()),
                         [](const ::testing::TestParamInfo<Case>& params) {
                           return params.param.name;
                         });

TEST(TokenExchange, CombineAndDispatchBackwardAddWhereTold) {
  const Case c = Cases()[3];
  OnRanks(c.ranks(), [&](Communicator& group) {
    Layer layer(c, group);
    FillWithCodes(layer);
    layer.Plan();
    const auto once = [&](bool add, const Tensor& to) {
      const Tensor rows = layer.exchange.Dispatch(layer.bench.ctx(), layer.plan, layer.x);
      layer.exchange.DispatchBackward(layer.bench.ctx(), layer.plan, rows, to, add);
      layer.exchange.Combine(layer.bench.ctx(), layer.plan, rows, layer.gates, to, true,
                             &layer.returned);
    };
    once(false, layer.y);
    const Tensor twice = layer.bench.Copy(layer.y);
    once(true, twice);
    for (int64_t i = 0; i < layer.y.numel(); ++i) {
      // Two unit sums and gates 1 + 2, on rows that are x itself.
      EXPECT_EQ(layer.y.as<float>()[i], 5 * layer.x.as<float>()[i]);
      EXPECT_EQ(twice.as<float>()[i], 10 * layer.x.as<float>()[i]);
    }
  });
}

TEST(TokenExchange, OneObjectServesPoolsOfDifferentSizes) {
  OnRanks(3, [](Communicator& group) {
    TokenExchange exchange(group);
    Workbench bench;
    const Tensor ids = bench.Ints({2, 1}, {1, 0});
    const Tensor x = bench.Floats({2, 1}, {3, 4}), y = bench.Poisoned({2, 1});
    const Tensor gates = bench.Floats({2, 1}, {1, 1});
    for (const int experts : {9, 2, 30, 3}) {
      const ExpertMap map = ExpertMap::Blocks(experts, 3);
      const DispatchPlan plan = exchange.Plan(bench.ctx(), map, ids);
      Tensor returned;
      exchange.Combine(bench.ctx(), plan, exchange.Dispatch(bench.ctx(), plan, x), gates, y, false,
                       &returned);
      EXPECT_EQ(ToVector(y), ToVector(x)) << experts << " experts";
    }
  });
}

TEST(TokenExchange, ExposedSecondsAreTakenOnce) {
  OnRanks(2, [](Communicator& group) {
    TokenExchange exchange(group);
    Workbench bench;
    exchange.Plan(bench.ctx(), ExpertMap::Blocks(2, 2), bench.Ints({1, 1}, {0}));
    EXPECT_GT(exchange.TakeExposedSeconds(), 0);
    EXPECT_EQ(exchange.TakeExposedSeconds(), 0);
  });
}

}  // namespace
}  // namespace unipool
