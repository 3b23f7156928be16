#include "tests/comm/collective_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

namespace unipool::testing {
namespace {

// Small integers: exact in every type, and different for each rank and (modulo 997) index.
template <typename T>
T Value(int rank, int64_t i) {
  return static_cast<T>(1000 * (rank + 1) + i % 997);
}

template <typename T>
std::vector<T> Values(int rank, int64_t elements, int64_t first = 0) {
  std::vector<T> values(elements);
  for (int64_t i = 0; i < elements; ++i) values[i] = Value<T>(rank, first + i);
  return values;
}

template <typename T>
T SumOfValues(int ranks, int64_t i) {
  T sum = 0;
  for (int r = 0; r < ranks; ++r) sum += Value<T>(r, i);
  return sum;
}

template <typename T>
std::vector<T> SumsOfValues(int ranks, int64_t elements, int64_t first = 0) {
  std::vector<T> sums(elements);
  for (int64_t i = 0; i < elements; ++i) sums[i] = SumOfValues<T>(ranks, first + i);
  return sums;
}

template <typename T>
Tensor Flat(std::vector<T>& values) {
  return Tensor::Of(values.data(), {static_cast<int64_t>(values.size())});
}

std::vector<float> Poisoned(int64_t elements) {
  return std::vector<float>(elements, std::numeric_limits<float>::quiet_NaN());
}

std::unique_ptr<Stream> Inline() { return Stream::Create(Device{}); }

template <typename T>
void AllReduceSums(Communicator& comm, int64_t elements) {
  std::vector<T> x = Values<T>(comm.rank(), elements);
  comm.AllReduce(Flat(x), ReduceOp::kSum, *Inline());
  EXPECT_TRUE(x == SumsOfValues<T>(comm.size(), elements)) << elements << " elements";
}

// Between 0 and 4 times `scale`; some counts are zero.
int64_t RowsFromTo(int from, int to, int64_t scale) { return (from * from + 2 * to) % 5 * scale; }

// Element c of row i that rank `from` sends to rank `to`.
float RowValue(int from, int to, int64_t i, int64_t c) {
  return static_cast<float>(((from * 8 + to) * 64 + i % 64) * 4 + c);
}

constexpr int64_t kColumns = 3;

std::vector<float> RowsBetween(int from, int to, int64_t rows) {
  std::vector<float> values;
  for (int64_t i = 0; i < rows * kColumns; ++i) {
    values.push_back(RowValue(from, to, i / kColumns, i % kColumns));
  }
  return values;
}

// Runs AllToAllV with rows(from, to) rows between ranks and compares all received rows.
template <typename Rows>
void Exchange(Communicator& comm, Rows rows) {
  std::vector<int64_t> send_rows, recv_rows;
  std::vector<float> input, expected;
  for (int r = 0; r < comm.size(); ++r) {
    send_rows.push_back(rows(comm.rank(), r));
    recv_rows.push_back(rows(r, comm.rank()));
    const auto out = RowsBetween(comm.rank(), r, send_rows.back());
    const auto in = RowsBetween(r, comm.rank(), recv_rows.back());
    input.insert(input.end(), out.begin(), out.end());
    expected.insert(expected.end(), in.begin(), in.end());
  }
  std::vector<float> output = Poisoned(static_cast<int64_t>(expected.size()));
  const auto matrix = [](std::vector<float>& values) {
    return Tensor::Of(values.data(), {static_cast<int64_t>(values.size()) / kColumns, kColumns});
  };
  comm.AllToAllV(matrix(input), send_rows, matrix(output), recv_rows, *Inline());
  EXPECT_TRUE(output == expected);
}

void SumEveryType(Communicator& comm, int64_t elements) {
  AllReduceSums<float>(comm, elements);
  AllReduceSums<double>(comm, elements);
  AllReduceSums<int32_t>(comm, elements);
  AllReduceSums<int64_t>(comm, elements);
}

void TakeMaxima(Communicator& comm, int64_t elements) {
  // The rank with the maximum differs from index to index.
  std::vector<int64_t> x(elements), expected(elements, comm.size() - 1 - 100);
  for (int64_t i = 0; i < elements; ++i) x[i] = (comm.rank() + i) % comm.size() - 100;
  comm.AllReduce(Flat(x), ReduceOp::kMax, *Inline());
  EXPECT_TRUE(x == expected) << elements << " elements";
}

void SumInRankOrder(Communicator& comm, int64_t elements) {
  const auto value = [](int rank, int64_t i) {
    return rank % 2 == 0 ? 1.0f / static_cast<float>(3 + i % 7 + rank)
                         : 1e7f * static_cast<float>(rank - 2);
  };
  std::vector<float> x(elements), expected(elements);
  for (int64_t i = 0; i < elements; ++i) {
    x[i] = value(comm.rank(), i);
    for (int r = 0; r < comm.size(); ++r) expected[i] += value(r, i);
  }
  comm.AllReduce(Flat(x), ReduceOp::kSum, *Inline());
  EXPECT_TRUE(x == expected) << elements << " elements";
}

void ReduceScatter(Communicator& comm, int64_t elements_per_rank) {
  std::vector<float> input = Values<float>(comm.rank(), elements_per_rank * comm.size());
  std::vector<float> output = Poisoned(elements_per_rank);
  comm.ReduceScatter(Flat(input), Flat(output), *Inline());
  EXPECT_TRUE(output ==
              SumsOfValues<float>(comm.size(), elements_per_rank, comm.rank() * elements_per_rank));
}

void ReduceScatterInPlace(Communicator& comm, int64_t elements_per_rank) {
  std::vector<float> x = Values<float>(comm.rank(), elements_per_rank * comm.size());
  const int64_t first = comm.rank() * elements_per_rank;
  const Tensor mine = Flat(x).Rows(first, first + elements_per_rank);
  comm.ReduceScatter(Flat(x), mine, *Inline());
  const auto expected = SumsOfValues<float>(comm.size(), elements_per_rank, first);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), x.begin() + first));
}

void AllGather(Communicator& comm, int64_t elements_per_rank) {
  std::vector<float> input = Values<float>(comm.rank(), elements_per_rank);
  std::vector<float> output = Poisoned(elements_per_rank * comm.size());
  comm.AllGather(Flat(input), Flat(output), *Inline());
  for (int r = 0; r < comm.size(); ++r) {
    const auto expected = Values<float>(r, elements_per_rank);
    EXPECT_TRUE(
        std::equal(expected.begin(), expected.end(), output.begin() + r * elements_per_rank))
        << "from rank " << r;
  }
}

void AllGatherInPlace(Communicator& comm, int64_t elements_per_rank) {
  std::vector<float> x = Poisoned(elements_per_rank * comm.size());
  const int64_t first = comm.rank() * elements_per_rank;
  const auto mine = Values<float>(0, elements_per_rank, first);
  std::copy(mine.begin(), mine.end(), x.begin() + first);
  comm.AllGather(Flat(x).Rows(first, first + elements_per_rank), Flat(x), *Inline());
  EXPECT_TRUE(x == Values<float>(0, elements_per_rank * comm.size()));
}

void UnevenAllToAllV(Communicator& comm, int64_t scale) {
  Exchange(comm, [&](int from, int to) { return RowsFromTo(from, to, scale); });
}

void AllToOne(Communicator& comm, int64_t rows) {
  const int last = comm.size() - 1;
  Exchange(comm, [&](int from, int to) { return to == last ? rows + from : 0; });
}

void BroadcastFromEveryRoot(Communicator& comm, int64_t elements) {
  for (int root = 0; root < comm.size(); ++root) {
    std::vector<float> x = Values<float>(comm.rank(), elements);
    comm.Broadcast(Flat(x), root, *Inline());
    EXPECT_TRUE(x == Values<float>(root, elements)) << "from rank " << root;
  }
}

// No rank leaves a barrier before the last one has entered, by the clock that ranks on a host
// share.
void MeetAtBarriers(Communicator& comm) {
  for (int i = 0; i < 20; ++i) {
    if (i % comm.size() == comm.rank()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const auto entered = std::chrono::steady_clock::now();
    comm.Barrier();
    int64_t last_entered = entered.time_since_epoch().count();
    const int64_t exited = std::chrono::steady_clock::now().time_since_epoch().count();
    comm.AllReduce(Tensor::Of(&last_entered, {1}), ReduceOp::kMax, *Inline());
    EXPECT_GE(exited, last_entered);
  }
}

void SplitInTwo(Communicator& comm) {
  const int color = comm.rank() % 2;
  const auto part = comm.Split(color, "part");
  EXPECT_EQ(part->rank(), comm.rank() / 2);
  EXPECT_EQ(part->size(), (comm.size() + 1 - color) / 2);
  std::vector<float> x = {static_cast<float>(comm.rank())};
  part->AllReduce(Flat(x), ReduceOp::kSum, *Inline());
  float expected = 0;
  for (int r = color; r < comm.size(); r += 2) expected += static_cast<float>(r);
  EXPECT_EQ(x[0], expected);
}

void UseTwoStreams(Communicator& comm, int64_t elements) {
  const auto side = Stream::Create(Device{}, Stream::Kind::kSide);
  const auto expected = SumsOfValues<float>(comm.size(), elements);
  for (int i = 0; i < 10; ++i) {
    std::vector<float> first = Values<float>(comm.rank(), elements), second = first;
    comm.AllReduce(Flat(first), ReduceOp::kSum, *side);
    comm.AllReduce(Flat(second), ReduceOp::kSum, *Inline());
    side->Synchronize();
    ASSERT_TRUE(first == expected);
    ASSERT_TRUE(second == expected);
  }
}

// No element, one, sizes that ranks do not divide, and messages too large for MPI's eager protocol.
constexpr int64_t kSizes[] = {0, 1, 7, 1000, 20001};

template <void (*check)(Communicator&, int64_t)>
void ForSizes(Communicator& comm) {
  for (const int64_t size : kSizes) check(comm, size);
}

// Also a size for which a reduction takes several rounds.
template <void (*check)(Communicator&, int64_t)>
void ForSizesAndRounds(Communicator& comm) {
  ForSizes<check>(comm);
  check(comm, (1 << 19) + 3);
}

constexpr CollectiveCheck kChecks[] = {
    {"AllReduceSumsEveryType", ForSizesAndRounds<SumEveryType>},
    {"AllReduceComputesMaxima", ForSizesAndRounds<TakeMaxima>},
    {"SumsAreInRankOrder", ForSizesAndRounds<SumInRankOrder>},
    {"ReduceScatterReturnsThePartOfTheRank", ForSizesAndRounds<ReduceScatter>},
    {"ReduceScatterWorksInPlace", ForSizesAndRounds<ReduceScatterInPlace>},
    {"AllGatherCopiesEveryPart", ForSizes<AllGather>},
    {"AllGatherWorksInPlace", ForSizes<AllGatherInPlace>},
    {"AllToAllVReceivesRowsInRankOrder", ForSizes<UnevenAllToAllV>},
    {"AllToAllVMaySendAllToOneRank", ForSizes<AllToOne>},
    {"BroadcastWorksFromEveryRoot", ForSizes<BroadcastFromEveryRoot>},
    {"NoRankLeavesABarrierEarly", MeetAtBarriers},
    {"SplitMakesWorkingGroups", SplitInTwo},
    {"TwoStreamsRunConcurrently", ForSizes<UseTwoStreams>},
};

}  // namespace

absl::Span<const CollectiveCheck> CollectiveChecks() { return kChecks; }

}  // namespace unipool::testing
