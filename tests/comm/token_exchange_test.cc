#include "comm/token_exchange.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "tests/comm/exchange_layer.h"
#include "tests/support/on_ranks.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ExchangeCase;
using testing::ExchangeCases;
using testing::ExchangeLayer;
using testing::kHidden;
using testing::OnRanks;
using testing::ToVector;
using testing::Workbench;

// x[g, column] = 8 g + column; gates 1, 2, 4; expert e multiplies by e + 1: every value is exact.
void FillWithCodes(ExchangeLayer& layer) {
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

class TokenExchangeTest : public ::testing::TestWithParam<ExchangeCase> {
 protected:
  // Runs `body(layer)` on every rank of the case, in one chunk and in several.
  void OnLayers(const std::function<void(ExchangeLayer&)>& body) {
    for (const int chunks : {1, 2, 3, 100}) {
      SCOPED_TRACE(::testing::Message() << chunks << " chunks");
      OnRanks(GetParam().ranks(), [&](Communicator& group) {
        ExchangeLayer layer(GetParam(), group, Device{}, chunks);
        body(layer);
      });
    }
  }
};

TEST_P(TokenExchangeTest, EveryTokenMeetsItsExperts) {
  OnLayers([](ExchangeLayer& layer) {
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
  OnLayers([](ExchangeLayer& layer) {
    FillWithCodes(layer);
    layer.Plan();
    const Tensor rows = layer.Dispatch();
    std::vector<float> expected;
    std::vector<int64_t> offsets = {0};
    for (const int expert : layer.map.owned(layer.rank)) {
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
  const ExchangeCase whole = GetParam().OnOneRank();
  OnRanks(1, [&](Communicator& alone) {
    ExchangeLayer expected(whole, alone);
    expected.Plan();
    expected.Forward();
    expected.Backward();
    OnLayers([&](ExchangeLayer& layer) {
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

// Slots and rows of the parts follow one another.
TEST_P(TokenExchangeTest, PartsCoverAllSlotsAndRows) {
  OnLayers([](ExchangeLayer& layer) {
    layer.Plan();
    const std::vector<int64_t> offsets = testing::Read<int64_t>(layer.plan.offsets);
    int64_t slot = 0;
    EXPECT_EQ(layer.plan.chunks(), layer.map.chunks());
    for (const ExpertPart& part : layer.plan.parts) {
      EXPECT_EQ(part.first_slot, slot);
      EXPECT_EQ(part.first_row, offsets[static_cast<size_t>(part.first_slot)]);
      EXPECT_EQ(part.last_row, offsets[static_cast<size_t>(part.last_slot)]);
      slot = part.last_slot;
    }
    EXPECT_EQ(slot, static_cast<int64_t>(layer.map.owned(layer.rank).size()));
  });
}

INSTANTIATE_TEST_SUITE_P(, TokenExchangeTest, ::testing::ValuesIn(ExchangeCases()),
                         [](const ::testing::TestParamInfo<ExchangeCase>& params) {
                           return params.param.name;
                         });

TEST(TokenExchange, CombineAndDispatchBackwardAddWhereTold) {
  const ExchangeCase c = ExchangeCases()[3];
  OnRanks(c.ranks(), [&](Communicator& group) {
    ExchangeLayer layer(c, group);
    FillWithCodes(layer);
    layer.Plan();
    const auto once = [&](bool add, const Tensor& to) {
      const Tensor rows = layer.Dispatch();
      layer.Return(rows, layer.returned);
      layer.exchange.DispatchBackward(layer.ctx, layer.plan, layer.returned, to, add);
      layer.exchange.Combine(layer.ctx, layer.plan, layer.returned, layer.gates, to, to);
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
      ExpertMap map = ExpertMap::Blocks(experts, 3);
      map.SetChunks(1 + experts % 4);
      DispatchPlan plan;
      exchange.Plan(bench.ctx(), map, ids, &plan);
      const Tensor returned = bench.Poisoned({2, 1});
      const Tensor rows = exchange.AtOwner(bench.ctx(), plan, returned);
      exchange.Dispatch(bench.ctx(), plan, x, rows);
      for (int chunk = 0; chunk < plan.chunks(); ++chunk) {
        exchange.Arrive(bench.ctx(), plan, chunk);
        exchange.Return(bench.ctx(), plan, chunk, rows, returned);
      }
      exchange.Combine(bench.ctx(), plan, returned, gates, Tensor{}, y);
      EXPECT_EQ(ToVector(y), ToVector(x)) << experts << " experts";
    }
  });
}

// Ranks come one after the other: each starts what travels, and goes on, before the next has come.
TEST(TokenExchange, RowsTravelWhileTheCallerWorks) {
  const ExchangeCase c = ExchangeCases()[2];
  ASSERT_EQ(c.name, "ThreeChoices");
  std::atomic<int> turn = 0;
  OnRanks(c.ranks(), [&](Communicator& group) {
    ExchangeLayer layer(c, group, Device{}, 2);
    FillWithCodes(layer);
    layer.Plan();
    const auto in_turn = [&](int round, const std::function<void()>& start) {
      while (turn != round * c.ranks() + layer.rank) std::this_thread::yield();
      start();
      ++turn;
    };
    const Tensor rows = layer.exchange.AtOwner(layer.ctx, layer.plan, layer.returned);
    in_turn(0, [&] { layer.exchange.Dispatch(layer.ctx, layer.plan, layer.x, rows); });
    for (int chunk = 0; chunk < 2; ++chunk) layer.exchange.Arrive(layer.ctx, layer.plan, chunk);
    in_turn(1, [&] { layer.Return(rows, layer.returned); });
    layer.exchange.Combine(layer.ctx, layer.plan, layer.returned, layer.gates, Tensor{}, layer.y);
    for (int64_t i = 0; i < layer.y.numel(); ++i) {
      EXPECT_EQ(layer.y.as<float>()[i], (1 + 2 + 4) * layer.x.as<float>()[i]);
    }
  });
}

TEST(TokenExchange, ExposedSecondsAreTakenOnce) {
  OnRanks(2, [](Communicator& group) {
    TokenExchange exchange(group);
    Workbench bench;
    DispatchPlan plan;
    exchange.Plan(bench.ctx(), ExpertMap::Blocks(2, 2), bench.Ints({1, 1}, {0}), &plan);
    EXPECT_GT(exchange.TakeExposedSeconds(), 0);
    EXPECT_EQ(exchange.TakeExposedSeconds(), 0);
  });
}

}  // namespace
}  // namespace unipool
