// What tests of the exchange share: batches with their choices, and one layer of one rank over
// them, on any device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "comm/expert_map.h"
#include "comm/token_exchange.h"
#include "tests/support/workbench.h"

namespace unipool::testing {

inline constexpr int64_t kHidden = 5;

// A global batch, told apart by token: rank r has tokens[r] of it, in rank order. Choice j of
// global token g goes to expert id(g, j).
struct ExchangeCase {
  std::string name;
  std::vector<int64_t> tokens;
  int64_t top_k;
  std::vector<int> owners;  // of the experts
  std::function<int64_t(int64_t, int64_t)> id;

  int ranks() const { return static_cast<int>(tokens.size()); }
  int64_t first_token(int rank) const;
  // The same batch and choices on one rank that owns every expert.
  ExchangeCase OnOneRank() const;
};
void PrintTo(const ExchangeCase& c, std::ostream* os);

std::vector<ExchangeCase> ExchangeCases();

// One layer on one rank: the tensors of the exchange, and experts that multiply each column by a
// number of their own. Inputs are made on the host and are `c`'s whatever the number of ranks.
struct ExchangeLayer {
  ExchangeLayer(const ExchangeCase& test_case, Communicator& group, Device device = {},
                int chunks = 1);

  void Plan() { exchange.Plan(ctx, map, ids, &plan); }
  // The part's rows, where the expert in slot s has offsets[s], times each expert's factors.
  void RunExperts(const ExpertPart& part, const Tensor& rows);
  // Rows [received, kHidden] as they are when all have arrived.
  Tensor Dispatch();
  // Sends them back as they are.
  void Return(const Tensor& results, const Tensor& to);
  void Forward();
  void Backward();

  // A copy on the device; the same tensor where that is the CPU.
  Tensor OnDevice(const Tensor& host);
  Tensor Poisoned(std::initializer_list<int64_t> dims);

  const ExchangeCase& c;
  const int rank;
  const int64_t tokens;
  Workbench bench;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<Stream> stream;
  Context ctx;
  ExpertMap map;
  TokenExchange exchange;
  Tensor factors;  // [experts, kHidden], host
  Tensor ids, x, dy, gates, y, dx, dgates, returned;
  DispatchPlan plan;

 private:
  // This rank's rows of a random tensor over the global batch, on the host.
  Tensor Slice(const char* name, int64_t columns);
};

// The values, wherever they are.
template <typename T>
std::vector<T> Read(const Tensor& tensor);

}  // namespace unipool::testing
