#include "tests/comm/exchange_layer.h"

#include <numeric>
#include <utility>

#include "runtime/copy.h"

namespace unipool::testing {
namespace {

std::vector<int> BlockOwners(int experts, int ranks, int first_rank = 0) {
  const ExpertMap map = ExpertMap::Blocks(experts, ranks, first_rank);
  std::vector<int> owners;
  for (int e = 0; e < experts; ++e) owners.push_back(map.owner(e));
  return owners;
}

}  // namespace

int64_t ExchangeCase::first_token(int rank) const {
  return std::accumulate(tokens.begin(), tokens.begin() + rank, int64_t{0});
}

ExchangeCase ExchangeCase::OnOneRank() const {
  return {name, {first_token(ranks())}, top_k, std::vector<int>(owners.size(), 0), id, lost};
}

void PrintTo(const ExchangeCase& c, std::ostream* os) { *os << c.name; }

std::vector<ExchangeCase> ExchangeCases() {
  const auto spread = [](int experts) {
    return [=](int64_t g, int64_t j) { return (g * g + 3 * g + j) % experts; };
  };
  const auto to_one = [](int64_t, int64_t) { return 2; };
  const auto to_even = [](int64_t g, int64_t j) { return 2 * ((g + j) % 3); };
  const std::vector<int> scattered = {3, 1, 0, 3, 3, 0, 1, 3, 1};
  const auto all = [](int64_t, int64_t) { return true; };
  const auto one = [](int64_t g, int64_t j) { return g == 4 && j == 0; };
  const auto most = [](int64_t g, int64_t j) { return (g * 5 + j) % 8 > 0; };
  const auto later_choices = [](int64_t g, int64_t j) { return j > g % 4 - 1; };
  const auto middle_rank = [](int64_t g, int64_t) { return g >= 4 && g < 11; };
  const auto of_expert_2 = [](int64_t g, int64_t) { return g % 3 > 0; };
  return {
      {"OneRank", {9}, 2, BlockOwners(4, 1), spread(4)},
      {"TwoRanks", {8, 5}, 1, BlockOwners(4, 2), spread(4)},
      {"ThreeChoices", {6, 6, 6, 6}, 3, BlockOwners(8, 4), spread(8)},
      {"SevenExpertsOnThreeRanks", {4, 7, 5}, 2, BlockOwners(7, 3), spread(7)},
      {"TwoExpertsOnFourRanks", {3, 3, 3, 3}, 1, BlockOwners(2, 4, 1), spread(2)},
      {"AllToOneExpert", {5, 4, 3}, 1, BlockOwners(6, 3), to_one},
      {"EmptyExperts", {5, 6, 7}, 2, BlockOwners(6, 3), to_even},
      {"RanksWithoutTokens", {0, 6, 0, 1}, 2, BlockOwners(5, 4), spread(5)},
      {"NoTokensAtAll", {0, 0}, 2, BlockOwners(3, 2), spread(3)},
      {"ScatteredOwners", {70, 1, 33, 18}, 3, scattered, spread(9)},
      {"SevenRanks", {2, 3, 4, 5, 6, 7, 8}, 2, BlockOwners(17, 7, 3), spread(17)},
      {"OneRankLosesOneChoice", {9}, 2, BlockOwners(4, 1), spread(4), one},
      {"OneRankLosesAllTokens", {9}, 2, BlockOwners(4, 1), spread(4), all},
      {"OneTokenLost", {5, 3}, 1, BlockOwners(4, 2), spread(4), one},
      {"AllTokensLost", {6, 1, 5}, 3, BlockOwners(8, 3), spread(8), all},
      {"FewerThanThreeChoices", {6, 6, 6, 6}, 3, BlockOwners(8, 4), spread(8), later_choices},
      {"ARankLosesItsTokens", {4, 7, 5}, 2, BlockOwners(7, 3), spread(7), middle_rank},
      {"MostOfOneExpertLost", {5, 4, 3}, 1, BlockOwners(6, 3), to_one, of_expert_2},
      {"ScatteredOwnersLoseMost", {70, 1, 33, 18}, 3, scattered, spread(9), most},
      {"SevenRanksLoseMost", {2, 3, 4, 5, 6, 7, 8}, 2, BlockOwners(17, 7, 3), spread(17), most},
  };
}

ExchangeLayer::ExchangeLayer(const ExchangeCase& test_case, Communicator& group, Device device,
                             int chunks)
    : c(test_case),
      rank(group.rank()),
      tokens(c.tokens[rank]),
      arena(std::make_unique<Arena>(Arena::Create(device, int64_t{4} << 20).value())),
      stream(Stream::Create(device)),
      map(ExpertMap::FromOwners(c.owners, group.size())),
      exchange(group),
      factors(bench.Random("factors", {map.experts(), kHidden})) {
  map.SetChunks(chunks);
  ctx.arena = arena.get();
  ctx.stream = stream.get();
  std::vector<int32_t> choices;
  for (int64_t i = 0; i < tokens * c.top_k; ++i) {
    choices.push_back(static_cast<int32_t>(c.id(c.first_token(rank) + i / c.top_k, i % c.top_k)));
  }
  ids = OnDevice(bench.Ints({tokens, c.top_k}, choices));
  x = OnDevice(Slice("x", kHidden));
  dy = OnDevice(Slice("dy", kHidden));
  gates = OnDevice(Gates());
  y = Poisoned({tokens, kHidden});
  dx = Poisoned({tokens, kHidden});
  dgates = Poisoned({tokens, c.top_k});
  returned = Poisoned({tokens * c.top_k, kHidden});
}

Tensor ExchangeLayer::Slice(const char* name, int64_t columns) {
  const int64_t first = c.first_token(rank);
  return bench.Random(name, {c.first_token(c.ranks()), columns}).Rows(first, first + tokens);
}

Tensor ExchangeLayer::Gates() {
  const Tensor values = Slice("gates", c.top_k);
  for (int64_t i = 0; i < values.numel(); ++i) {
    const bool lost = c.lost(c.first_token(rank) + i / c.top_k, i % c.top_k);
    if (lost) values.as<float>()[i] = i % 2 == 0 ? 0.0f : -0.0f;
  }
  return values;
}

Tensor ExchangeLayer::OnDevice(const Tensor& host) {
  if (stream->device() == Device{}) return host;
  Tensor there = host;
  there.device = stream->device();
  there.data = arena->Allocate(host.dtype, {host.numel()}).data;
  CopyTensor(host, there, *stream);
  stream->Synchronize();
  return there;
}

Tensor ExchangeLayer::Poisoned(std::initializer_list<int64_t> dims) {
  return OnDevice(bench.Poisoned(dims));
}

void ExchangeLayer::RunExperts(const ExpertPart& part, const Tensor& rows) {
  const std::vector<int64_t> offsets = Read<int64_t>(plan.offsets);
  const Tensor mine = rows.Rows(part.first_row, part.last_row);
  std::vector<float> values = Read<float>(mine);
  for (int64_t s = part.first_slot; s < part.last_slot; ++s) {
    const auto slot = static_cast<size_t>(s);
    const float* factor = factors.as<float>() + map.owned(rank)[slot] * kHidden;
    for (int64_t row = offsets[slot]; row < offsets[slot + 1]; ++row) {
      float* value = values.data() + (row - part.first_row) * kHidden;
      for (int64_t h = 0; h < kHidden; ++h) value[h] *= factor[h];
    }
  }
  CopyTensor(Tensor::Of(values.data(), {mine.dim(0), kHidden}), mine, *stream);
  stream->Synchronize();
}

Tensor ExchangeLayer::NewRows() { return exchange.NewReceiveBuffer(ctx, plan, Returned()); }

TokenTransfer ExchangeLayer::StartForward(const Tensor& rows) {
  return exchange.Dispatch(ctx, plan, {.x = x, .rows = rows, .returned = Returned()});
}

TokenTransfer ExchangeLayer::StartBackward(const Tensor& rows) {
  return exchange.CombineBackward(
      ctx, plan,
      {.dy = dy, .gates = gates, .returned = Returned(), .dgates = dgates, .dresults = rows});
}

void ExchangeLayer::WaitAll(TokenTransfer& transfer) {
  for (int chunk = 0; chunk < plan.chunks(); ++chunk) transfer.WaitChunk(ctx, chunk);
}

void ExchangeLayer::SendAllBack(TokenTransfer& transfer, const Tensor& results) {
  for (int chunk = 0; chunk < plan.chunks(); ++chunk) transfer.SendBack(ctx, chunk, results);
}

void ExchangeLayer::RunChunks(TokenTransfer& transfer, const Tensor& rows) {
  for (int chunk = 0; chunk < plan.chunks(); ++chunk) {
    transfer.WaitChunk(ctx, chunk);
    RunExperts(plan.part(chunk), rows);
    transfer.SendBack(ctx, chunk, rows);
  }
}

void ExchangeLayer::Forward() {
  ArenaScope scope(*arena);
  const Tensor rows = NewRows();
  TokenTransfer transfer = StartForward(rows);
  RunChunks(transfer, rows);
  exchange.Combine(ctx, std::move(transfer), {.gates = gates, .y = y});
}

void ExchangeLayer::Backward() {
  ArenaScope scope(*arena);
  const Tensor drows = NewRows();
  TokenTransfer transfer = StartBackward(drows);
  RunChunks(transfer, drows);
  exchange.DispatchBackward(ctx, std::move(transfer), {.dx = dx, .add_to_dx = false});
}

template <typename T>
std::vector<T> Read(const Tensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.numel()));
  ReadTensor(tensor, values.data());
  return values;
}
template std::vector<float> Read(const Tensor& tensor);
template std::vector<int32_t> Read(const Tensor& tensor);
template std::vector<int64_t> Read(const Tensor& tensor);

}  // namespace unipool::testing
