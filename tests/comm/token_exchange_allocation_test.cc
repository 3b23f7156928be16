// A warm exchange allocates nothing on the heap, with one rank and with several, in one chunk and
// in several: this program replaces operator new and counts its calls on every thread.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/comm/exchange_layer.h"
#include "tests/support/on_ranks.h"

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

// Not inlined: g++ would warn of memory from operator new that is freed with free().
[[gnu::noinline]] void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* block = std::malloc(size)) return block;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, size_t) noexcept { std::free(block); }

namespace unipool {
namespace {

using testing::ExchangeCases;
using testing::ExchangeLayer;

// Plans, and runs forward and backward, of experts that change nothing.
void RunLayer(ExchangeLayer& layer) {
  ArenaScope scope(*layer.arena);
  layer.Plan();
  const Tensor rows = layer.NewRows();
  TokenTransfer forward = layer.StartForward(rows);
  layer.WaitAll(forward);
  layer.SendAllBack(forward, rows);
  layer.exchange.Combine(layer.ctx, std::move(forward), {.gates = layer.gates, .y = layer.y});
  TokenTransfer backward = layer.StartBackward(rows);
  layer.WaitAll(backward);
  layer.SendAllBack(backward, rows);
  layer.exchange.DispatchBackward(layer.ctx, std::move(backward),
                                  {.dx = layer.dx, .add_to_dx = false});
}

TEST(TokenExchangeAllocation, AWarmTransferAllocatesNothing) {
  for (const auto& c : ExchangeCases()) {
    for (const int chunks : {1, 3}) {
      SCOPED_TRACE(::testing::Message() << c.name << ", " << chunks << " chunks");
      testing::OnRanks(c.ranks(), [&](Communicator& group) {
        ExchangeLayer layer(c, group, Device{}, chunks);
        for (int i = 0; i < 3; ++i) RunLayer(layer);
        group.Barrier();
        const int64_t before = allocations;
        group.Barrier();
        for (int i = 0; i < 3; ++i) RunLayer(layer);
        group.Barrier();
        const int64_t after = allocations;
        group.Barrier();
        EXPECT_EQ(after, before);
      });
    }
  }
}

}  // namespace
}  // namespace unipool
