#include "comm/token_exchange.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "comm/local_communicator.h"
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

// x[g, column] = 8 g + column, gates are 1, 2, 4 (0 of a lost choice), and expert e multiplies by
// e + 1, so that every value is exact.
void FillWithCodes(ExchangeLayer& layer) {
  const int64_t first = layer.c.first_token(layer.rank);
  for (int64_t i = 0; i < layer.x.numel(); ++i) {
    layer.x.as<float>()[i] = static_cast<float>(8 * (first + i / kHidden) + i % kHidden);
  }
  for (int64_t i = 0; i < layer.gates.numel(); ++i) {
    const bool lost = layer.gates.as<float>()[i] == 0;
    layer.gates.as<float>()[i] = lost ? 0.0f : static_cast<float>(1 << i % layer.c.top_k);
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
      for (int64_t j = 0; j < layer.c.top_k; ++j) {
        if (!layer.c.lost(token, j)) factor += (layer.c.id(token, j) + 1) << j;
      }
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
    const Tensor rows = layer.NewRows();
    TokenTransfer transfer = layer.StartForward(rows);
    layer.WaitAll(transfer);
    layer.SendAllBack(transfer, rows);
    layer.exchange.Combine(layer.ctx, std::move(transfer), {.gates = layer.gates, .y = layer.y});
    std::vector<float> expected;
    std::vector<int64_t> offsets = {0};
    for (const int expert : layer.map.owned(layer.rank)) {
      for (int64_t g = 0; g < layer.c.first_token(layer.c.ranks()); ++g) {
        for (int64_t j = 0; j < layer.c.top_k; ++j) {
          if (layer.c.id(g, j) != expert || layer.c.lost(g, j)) continue;
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
  OnRanks(1, [&](Communicator& single) {
    ExchangeLayer expected(whole, single);
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

// A lost choice has no row and no gradient. Everything else is what it is if the rows of lost
// choices travel and are multiplied by their gate of 0.
TEST_P(TokenExchangeTest, LostChoicesChangeNoResult) {
  OnLayers([](ExchangeLayer& layer) {
    int64_t kept = 0;
    for (const float gate : ToVector(layer.gates)) kept += gate != 0 ? 1 : 0;
    layer.Plan();
    EXPECT_EQ(layer.plan.sent, kept);
    layer.Forward();
    layer.Backward();
    const std::vector<float> y = ToVector(layer.y), dx = ToVector(layer.dx);
    const std::vector<float> dgates = ToVector(layer.dgates);
    layer.exchange.Plan(layer.ctx, layer.map, {.ids = layer.ids}, &layer.plan);
    EXPECT_EQ(layer.plan.sent, layer.tokens * layer.c.top_k);
    layer.Forward();
    layer.Backward();
    EXPECT_EQ(ToVector(layer.y), y);
    EXPECT_EQ(ToVector(layer.dx), dx);
    for (size_t i = 0; i < dgates.size(); ++i) {
      EXPECT_EQ(dgates[i], layer.gates.as<float>()[i] == 0 ? 0 : layer.dgates.as<float>()[i]);
    }
  });
}

// The slots and rows of the parts are consecutive.
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

// Runs a forward and a backward with experts that return their input. The forward writes or adds
// (1 + 2) x to `to`; the backward, with unit gates and dy = x, adds (1 + 1) x.
void AddForwardAndBackward(ExchangeLayer& layer, const Tensor& to, bool add) {
  const Tensor rows = layer.NewRows();
  TokenTransfer forward = layer.StartForward(rows);
  layer.WaitAll(forward);
  layer.SendAllBack(forward, rows);
  layer.exchange.Combine(layer.ctx, std::move(forward),
                         {.gates = layer.gates, .base = add ? to : Tensor{}, .y = to});
  const Tensor gates = layer.gates, dy = layer.dy;
  layer.gates = layer.bench.Floats({layer.tokens, 2},
                                   std::vector<float>(static_cast<size_t>(2 * layer.tokens), 1.0f));
  layer.dy = layer.x;
  TokenTransfer backward = layer.StartBackward(rows);
  layer.gates = gates;
  layer.dy = dy;
  layer.WaitAll(backward);
  layer.SendAllBack(backward, rows);
  layer.exchange.DispatchBackward(layer.ctx, std::move(backward), {.dx = to, .add_to_dx = true});
}

TEST(TokenExchange, CombineAndDispatchBackwardAddOnRequest) {
  const ExchangeCase c = ExchangeCases()[3];
  ASSERT_EQ(c.top_k, 2);
  OnRanks(c.ranks(), [&](Communicator& group) {
    ExchangeLayer layer(c, group);
    FillWithCodes(layer);
    layer.Plan();
    AddForwardAndBackward(layer, layer.y, /*add=*/false);
    const Tensor twice = layer.bench.Copy(layer.y);
    AddForwardAndBackward(layer, twice, /*add=*/true);
    for (int64_t i = 0; i < layer.y.numel(); ++i) {
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
      exchange.Plan(bench.ctx(), map, {.ids = ids, .gates = gates}, &plan);
      const Tensor returned = bench.Poisoned({2, 1});
      const Tensor rows = exchange.NewReceiveBuffer(bench.ctx(), plan, returned);
      TokenTransfer transfer =
          exchange.Dispatch(bench.ctx(), plan, {.x = x, .rows = rows, .returned = returned});
      for (int chunk = 0; chunk < plan.chunks(); ++chunk) {
        transfer.WaitChunk(bench.ctx(), chunk);
        transfer.SendBack(bench.ctx(), chunk, rows);
      }
      exchange.Combine(bench.ctx(), std::move(transfer), {.gates = gates, .y = y});
      EXPECT_EQ(ToVector(y), ToVector(x)) << experts << " experts";
    }
  });
}

// The ranks start their transfers one after the other: each rank's call returns before the next
// rank calls.
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
    const Tensor rows = layer.NewRows();
    std::optional<TokenTransfer> transfer;
    in_turn(0, [&] { transfer.emplace(layer.StartForward(rows)); });
    layer.WaitAll(*transfer);
    in_turn(1, [&] { layer.SendAllBack(*transfer, rows); });
    layer.exchange.Combine(layer.ctx, *std::move(transfer), {.gates = layer.gates, .y = layer.y});
    for (int64_t i = 0; i < layer.y.numel(); ++i) {
      EXPECT_EQ(layer.y.as<float>()[i], (1 + 2 + 4) * layer.x.as<float>()[i]);
    }
  });
}

TEST(TokenExchange, ExposedSecondsAreClearedByReading) {
  OnRanks(2, [](Communicator& group) {
    TokenExchange exchange(group);
    Workbench bench;
    DispatchPlan plan;
    exchange.Plan(bench.ctx(), ExpertMap::Blocks(2, 2), {.ids = bench.Ints({1, 1}, {0})}, &plan);
    EXPECT_GT(exchange.ReadAndClearExposedSeconds(), 0);
    EXPECT_EQ(exchange.ReadAndClearExposedSeconds(), 0);
  });
}

// Two micro-batches of one layer, each with its own plan and buffers, through one exchange.
TEST(TokenExchange, TwoTransfersMayBeInFlight) {
  const ExchangeCase c = ExchangeCases()[2];
  OnRanks(c.ranks(), [&](Communicator& group) {
    ExchangeLayer first(c, group, Device{}, 2), second(c, group, Device{}, 2);
    for (ExchangeLayer* layer : {&first, &second}) {
      FillWithCodes(*layer);
      first.exchange.Plan(layer->ctx, layer->map, {.ids = layer->ids}, &layer->plan);
    }
    for (int64_t i = 0; i < second.x.numel(); ++i) second.x.as<float>()[i] += 1000;
    const auto start = [&](ExchangeLayer& layer, const Tensor& rows) {
      return first.exchange.Dispatch(layer.ctx, layer.plan,
                                     {.x = layer.x, .rows = rows, .returned = layer.returned});
    };
    const Tensor rows = first.NewRows(), other_rows = second.NewRows();
    TokenTransfer transfer = start(first, rows), other = start(second, other_rows);
    for (int chunk = 0; chunk < 2; ++chunk) {
      other.WaitChunk(second.ctx, chunk);
      transfer.WaitChunk(first.ctx, chunk);
      transfer.SendBack(first.ctx, chunk, rows);
      other.SendBack(second.ctx, chunk, other_rows);
    }
    first.exchange.Combine(second.ctx, std::move(other), {.gates = second.gates, .y = second.y});
    first.exchange.Combine(first.ctx, std::move(transfer), {.gates = first.gates, .y = first.y});
    for (const ExchangeLayer* layer : {&first, &second}) {
      for (int64_t i = 0; i < layer->y.numel(); ++i) {
        EXPECT_EQ(layer->y.as<float>()[i], (1 + 2 + 4) * layer->x.as<float>()[i]);
      }
    }
  });
}

// Expects that `body`, which runs on all ranks of a case with two chunks (one chunk if the case has
// one rank), ends the process with `message`.
void ExpectDeath(int case_index, const std::function<void(ExchangeLayer&)>& body,
                 const char* message) {
  const ExchangeCase c = ExchangeCases()[static_cast<size_t>(case_index)];
  const auto run = [&] {
    OnRanks(c.ranks(), [&](Communicator& group) {
      ExchangeLayer layer(c, group, Device{}, 2);
      layer.Plan();
      body(layer);
    });
  };
  EXPECT_DEATH(run(), message) << c.name;
}

constexpr int kOneRank = 0, kTwoRanks = 1;

TEST(TokenTransferDeathTest, ChunksAreWaitedForOnceInOrder) {
  const auto wait = [](std::vector<int> chunks) {
    return [chunks](ExchangeLayer& layer) {
      TokenTransfer transfer = layer.StartForward(layer.NewRows());
      for (const int chunk : chunks) transfer.WaitChunk(layer.ctx, chunk);
    };
  };
  ExpectDeath(kOneRank, wait({0, 0}), "WaitChunk.0. after 1 of 1 chunks");
  ExpectDeath(kOneRank, wait({1}), "WaitChunk.1. after 0 of 1 chunks");
  ExpectDeath(kOneRank, wait({-1}), "WaitChunk.-1. after 0 of 1 chunks");
  ExpectDeath(kTwoRanks, wait({1}), "WaitChunk.1. after 0 of 2 chunks");
  ExpectDeath(kTwoRanks, wait({0, 1, 2}), "WaitChunk.2. after 2 of 2 chunks");
}

TEST(TokenTransferDeathTest, ChunksAreSentBackOnceInOrderAfterTheirWait) {
  const auto send = [](int waits, std::vector<int> chunks) {
    return [=](ExchangeLayer& layer) {
      const Tensor rows = layer.NewRows();
      TokenTransfer transfer = layer.StartForward(rows);
      for (int chunk = 0; chunk < waits; ++chunk) transfer.WaitChunk(layer.ctx, chunk);
      for (const int chunk : chunks) transfer.SendBack(layer.ctx, chunk, rows);
    };
  };
  ExpectDeath(kOneRank, send(0, {0}), "SendBack.0. before WaitChunk.0.");
  ExpectDeath(kOneRank, send(1, {0, 0}), "SendBack.0. after 1 of 1 chunks");
  ExpectDeath(kTwoRanks, send(1, {1}), "SendBack.1. before WaitChunk.1.");
  ExpectDeath(kTwoRanks, send(2, {1}), "SendBack.1. after 0 of 2 chunks");
}

TEST(TokenTransferDeathTest, IsConsumedOnceWhenAllChunksWereSentBack) {
  const auto combine = [](ExchangeLayer& layer, TokenTransfer transfer) {
    layer.exchange.Combine(layer.ctx, std::move(transfer), {.gates = layer.gates, .y = layer.y});
  };
  const auto early = [&](ExchangeLayer& layer) {
    const Tensor rows = layer.NewRows();
    TokenTransfer transfer = layer.StartForward(rows);
    transfer.WaitChunk(layer.ctx, 0);
    if (layer.plan.chunks() > 1) transfer.SendBack(layer.ctx, 0, rows);
    combine(layer, std::move(transfer));
  };
  ExpectDeath(kOneRank, early, "Combine before SendBack of every chunk");
  ExpectDeath(kTwoRanks, early, "Combine before SendBack of every chunk");
  const auto twice = [&](ExchangeLayer& layer) {
    const Tensor rows = layer.NewRows();
    TokenTransfer transfer = layer.StartForward(rows);
    layer.WaitAll(transfer);
    layer.SendAllBack(transfer, rows);
    combine(layer, std::move(transfer));
    combine(layer, std::move(transfer));
  };
  ExpectDeath(kOneRank, twice, "Combine of a transfer that was consumed");
  ExpectDeath(
      kOneRank, [](ExchangeLayer& layer) { const auto lost = layer.StartForward(layer.NewRows()); },
      "destroyed in flight .0 of 1 chunks sent back.");
}

TEST(TokenTransferDeathTest, IsConsumedByItsOwnExchangeInItsOwnDirection) {
  const auto finish = [](TokenExchange& exchange, ExchangeLayer& layer, bool forward) {
    const Tensor rows = layer.NewRows();
    TokenTransfer transfer = forward ? layer.StartForward(rows) : layer.StartBackward(rows);
    layer.WaitAll(transfer);
    layer.SendAllBack(transfer, rows);
    if (!forward) {
      exchange.Combine(layer.ctx, std::move(transfer), {.gates = layer.gates, .y = layer.y});
    } else {
      exchange.DispatchBackward(layer.ctx, std::move(transfer),
                                {.dx = layer.dx, .add_to_dx = false});
    }
  };
  const auto wrong_end = [&](bool forward) {
    return [&finish, forward](ExchangeLayer& l) { finish(l.exchange, l, forward); };
  };
  ExpectDeath(kOneRank, wrong_end(true), "DispatchBackward of a transfer of the other direction");
  ExpectDeath(kOneRank, wrong_end(false), "Combine of a transfer of the other direction");
  const auto foreign = [&](ExchangeLayer& layer) {
    auto group = CreateLocalCommunicators(1, absl::Seconds(10));
    TokenExchange other(*group[0]);
    finish(other, layer, true);
  };
  ExpectDeath(kOneRank, foreign, "DispatchBackward of a transfer that another exchange started");
}

TEST(TokenTransferDeathTest, ThePlanIsOfTheExchangeAndNotMadeAgain) {
  const auto unplanned = [](ExchangeLayer& layer) {
    layer.plan = DispatchPlan{};
    const auto transfer = layer.StartForward(layer.returned);
  };
  ExpectDeath(kOneRank, unplanned, "the plan is not of this exchange");
  const auto foreign = [](ExchangeLayer& layer) {
    auto group = CreateLocalCommunicators(1, absl::Seconds(10));
    TokenExchange other(*group[0]);
    other.Plan(layer.ctx, layer.map, {.ids = layer.ids}, &layer.plan);
    const auto transfer = layer.StartForward(layer.returned);
  };
  ExpectDeath(kOneRank, foreign, "the plan is not of this exchange");
  const auto replanned = [](ExchangeLayer& layer) {
    TokenTransfer transfer = layer.StartForward(layer.NewRows());
    layer.Plan();
    transfer.WaitChunk(layer.ctx, 0);
  };
  ExpectDeath(kOneRank, replanned, "WaitChunk: the plan was made again");
  ExpectDeath(kTwoRanks, replanned, "WaitChunk: the plan was made again");
}

}  // namespace
}  // namespace unipool
