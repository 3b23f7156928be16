// Shared by the tests of the exchange: batches with their expert choices, and one layer of one rank
// that exchanges them, on any device.
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

// A global batch: rank r holds tokens[r] tokens of it, in rank order. Choice j of global token g is
// expert id(g, j), with a gate of 0 if lost(g, j).
struct ExchangeCase {
  std::string name;
  std::vector<int64_t> tokens;
  int64_t top_k;
  std::vector<int> owners;  // of the experts
  std::function<int64_t(int64_t, int64_t)> id;
  std::function<bool(int64_t, int64_t)> lost = [](int64_t, int64_t) { return false; };

  int ranks() const { return static_cast<int>(tokens.size()); }
  int64_t first_token(int rank) const;
  // The same batch and choices on one rank that owns every expert.
  ExchangeCase OnOneRank() const;
};
void PrintTo(const ExchangeCase& c, std::ostream* os);

std::vector<ExchangeCase> ExchangeCases();

// One layer on one rank: the tensors of the exchange, and experts that multiply each column by
// their own factor. Inputs are made on the host and depend on the global batch of `c` only, not on
// the number of ranks.
struct ExchangeLayer {
  ExchangeLayer(const ExchangeCase& test_case, Communicator& group, Device device = {},
                int chunks = 1);

  void Plan() { exchange.Plan(ctx, map, {.ids = ids, .gates = gates}, &plan); }
  // Multiplies each row of the part by the factors of its expert, in place.
  void RunExperts(const ExpertPart& part, const Tensor& rows);
  // Where results come back to under the plan: [sent, kHidden] of `returned`.
  Tensor Returned() const { return returned.Rows(0, plan.sent); }
  // A receive buffer [received, kHidden] for the plan.
  Tensor NewRows();
  // Starts the transfer of x, or of the gradients of the results, to `rows`.
  TokenTransfer StartForward(const Tensor& rows);
  TokenTransfer StartBackward(const Tensor& rows);
  // WaitChunk and SendBack of every chunk.
  void WaitAll(TokenTransfer& transfer);
  void SendAllBack(TokenTransfer& transfer, const Tensor& results);
  // For each chunk in turn: waits for it, runs the experts in place, and sends it back.
  void RunChunks(TokenTransfer& transfer, const Tensor& rows);
  void Forward();
  void Backward();

  // A copy on the device; the same tensor if the device is the CPU.
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
  Tensor Gates();
};

// The values of a tensor on any device.
template <typename T>
std::vector<T> Read(const Tensor& tensor);

}  // namespace unipool::testing
