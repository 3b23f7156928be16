#include "tests/support/cuda_emulator/fibers.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

// Saves the callee-saved registers on the current stack, stores its top in *from, and switches to
// the stack `to`.
extern "C" void unipool_switch_stack(void** from, void* to);
asm(R"(
.text
.globl unipool_switch_stack
.type unipool_switch_stack, @function
unipool_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size unipool_switch_stack, .-unipool_switch_stack
)");

cuda_emulator::Size3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_emulator {
namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kGuardBytes = 4096;

enum class State : uint8_t { kReady, kAtWarp, kAtBlock, kDone };

// Deferred work in groups: the work of a group is done when the group is waited for.
template <typename T>
class Groups {
 public:
  void Begin(const T& work) { pending_.push_back({work, closed_}); }
  void Close() { ++closed_; }
  bool empty() const { return pending_.empty(); }
  void Clear() {
    pending_.clear();
    closed_ = 0;
  }
  // Does the work of all but the last `may_be_unfinished` groups. Returns true if there was any.
  template <typename Do>
  bool Wait(size_t may_be_unfinished, const Do& to_do) {
    if (closed_ < may_be_unfinished) return false;
    const size_t end = closed_ - may_be_unfinished;
    auto at = pending_.begin();
    for (; at != pending_.end() && at->group < end; ++at) to_do(at->work);
    const bool any = at != pending_.begin();
    pending_.erase(pending_.begin(), at);
    return any;
  }

 private:
  struct Pending {
    T work;
    size_t group;
  };
  std::vector<Pending> pending_;
  size_t closed_ = 0;  // number of closed groups
};

struct Copy {
  void* to;
  const void* from;
  size_t num_bytes;
  bool valid;
};

struct Fiber {
  void* top = nullptr;
  State state = State::kDone;
  Size3 place = {};
  Groups<Copy> copies;
  bool unfenced = false;  // copies have completed since the last FenceCopies
  Groups<Product> products;
};

struct Warp {
  const char* what = nullptr;  // the collective that the lanes are waiting in
  int arrived = 0;
  int lanes = 0;
  int parity = 0;  // slots alternate, because lanes may still read those of the previous exchange
  alignas(16) unsigned char slots[2][kWarp * kSlotBytes];
};

struct Block {
  std::array<Fiber, kMaxThreads> fibers;
  std::array<Warp, kMaxThreads / kWarp> warps;
  int threads = 0;
  int at_barrier = 0;
  int done = 0;
  int sums[2] = {0, 0};
  int sum_parity = 0;
  int current = -1;  // -1 if no grid is running
  void* scheduler_top = nullptr;
  void (*call)(void*) = nullptr;
  void* context = nullptr;
  uint32_t random = 1;
  unsigned char* stacks = nullptr;
  unsigned char* shared_end = nullptr;
  size_t shared_bytes = 0;
};

Block g_run;

Fiber& Current() { return g_run.fibers[static_cast<size_t>(g_run.current)]; }
Warp& CurrentWarp() { return g_run.warps[static_cast<size_t>(g_run.current / kWarp)]; }

const char* NameOf(const Fiber& fiber, const Warp& warp) {
  switch (fiber.state) {
    case State::kAtWarp:
      return warp.what;
    case State::kAtBlock:
      return "__syncthreads";
    case State::kDone:
      return "its end";
    case State::kReady:
      return "running";
  }
  return "";
}

unsigned char* Map(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) Stop("no memory");
  return static_cast<unsigned char*>(memory);
}

void MapOnce() {
  if (g_run.stacks != nullptr) return;
  g_run.stacks = Map(kMaxThreads * kStackBytes);
  for (size_t i = 0; i < kMaxThreads; ++i) {
    mprotect(g_run.stacks + i * kStackBytes, kGuardBytes, PROT_NONE);
  }
  g_run.shared_end = Map(kMaxSharedBytes + kGuardBytes) + kMaxSharedBytes;
  mprotect(g_run.shared_end, kGuardBytes, PROT_NONE);
}

void Yield() { unipool_switch_stack(&Current().top, g_run.scheduler_top); }

void RunThread() {
  g_run.call(g_run.context);
  if (!Current().products.empty()) Stop("ends with wgmma products that it has not waited for");
  Current().state = State::kDone;
  ++g_run.done;
  Yield();
  Stop("a finished thread was resumed");
}

void SwitchTo(int thread) {
  g_run.current = thread;
  threadIdx = Current().place;
  unipool_switch_stack(&g_run.scheduler_top, Current().top);
}

void StartThread(int thread) {
  Fiber& fiber = g_run.fibers[static_cast<size_t>(thread)];
  const auto place = static_cast<unsigned>(thread);
  fiber.state = State::kReady;
  fiber.place = {place % blockDim.x, place / blockDim.x % blockDim.y,
                 place / blockDim.x / blockDim.y};
  fiber.copies.Clear();
  fiber.unfenced = false;
  fiber.products.Clear();
  // The initial stack looks as if RunThread had been called: an odd number of words above a 16-byte
  // boundary.
  auto** top = reinterpret_cast<void**>(g_run.stacks + (place + size_t{1}) * kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&RunThread);
  for (int saved_register = 0; saved_register < 6; ++saved_register) *--top = nullptr;
  fiber.top = top;
}

uint32_t Random() {
  g_run.random = g_run.random * 1664525u + 1013904223u;
  return g_run.random >> 8;
}

// Runs the lanes of a warp until each waits at a collective or has ended.
void RunWarp(int warp) {
  const int begin = warp * kWarp, lanes = g_run.warps[static_cast<size_t>(warp)].lanes;
  const int first = static_cast<int>(Random() % static_cast<uint32_t>(lanes));
  const bool upward = Random() % 2 == 0;
  for (bool ran = true; ran;) {
    ran = false;
    for (int i = 0; i < lanes; ++i) {
      const int lane = (first + (upward ? i : lanes - i)) % lanes;
      if (g_run.fibers[static_cast<size_t>(begin + lane)].state != State::kReady) continue;
      SwitchTo(begin + lane);
      ran = true;
    }
  }
}

[[noreturn]] void StopWhereThreadsDiverged() {
  int other = 0;
  const auto& first = g_run.fibers[0];
  for (int i = 0; i < g_run.threads; ++i) {
    const Fiber& fiber = g_run.fibers[static_cast<size_t>(i)];
    if (fiber.state != first.state || fiber.state == State::kAtWarp) other = i;
  }
  g_run.current = other;
  threadIdx = Current().place;
  Stop("threads diverged: this one waits at %s forever, thread 0 is at %s, %d of %d have ended",
       NameOf(Current(), CurrentWarp()), NameOf(first, g_run.warps[0]), g_run.done, g_run.threads);
}

void RunBlock() {
  const int num_warps = (g_run.threads + kWarp - 1) / kWarp;
  std::memset(SharedMemory(), 0xff, g_run.shared_bytes);
  for (int i = 0; i < g_run.threads; ++i) StartThread(i);
  for (int i = 0; i < num_warps; ++i) {
    Warp& warp = g_run.warps[static_cast<size_t>(i)];
    warp.arrived = 0;
    warp.lanes = std::min(kWarp, g_run.threads - i * kWarp);
  }
  g_run.done = 0;
  std::array<int, kMaxThreads / kWarp> order;
  std::iota(order.begin(), order.begin() + num_warps, 0);
  while (g_run.done < g_run.threads) {
    for (int i = num_warps - 1; i > 0; --i) {
      std::swap(order[static_cast<size_t>(i)], order[Random() % static_cast<uint32_t>(i + 1)]);
    }
    g_run.at_barrier = 0;
    for (int i = 0; i < num_warps; ++i) RunWarp(order[static_cast<size_t>(i)]);
    if (g_run.done == g_run.threads) break;
    if (g_run.at_barrier < g_run.threads) StopWhereThreadsDiverged();
    for (int i = 0; i < g_run.threads; ++i) {
      g_run.fibers[static_cast<size_t>(i)].state = State::kReady;
    }
    g_run.sum_parity ^= 1;
    g_run.sums[g_run.sum_parity] = 0;
  }
}

}  // namespace

void RunGrid(const Grid& grid, void (*call)(void*), void* context) {
  MapOnce();
  blockDim = grid.threads;
  gridDim = grid.blocks;
  g_run.threads = static_cast<int>(grid.threads.x * grid.threads.y * grid.threads.z);
  g_run.shared_bytes = grid.shared_bytes;
  g_run.call = call;
  g_run.context = context;
  for (unsigned z = 0; z < grid.blocks.z; ++z) {
    for (unsigned y = 0; y < grid.blocks.y; ++y) {
      for (unsigned x = 0; x < grid.blocks.x; ++x) {
        blockIdx = {x, y, z};
        RunBlock();
      }
    }
  }
  g_run.current = -1;
}

// Placed directly before an inaccessible page, so that an overrun faults.
unsigned char* SharedMemory() {
  constexpr size_t kAlignment = 128;
  return g_run.shared_end - (g_run.shared_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int Lane() { return g_run.current % kWarp; }

void MeetBlock() {
  Current().state = State::kAtBlock;
  ++g_run.at_barrier;
  Yield();
}

int SumOverBlock(int value) {
  const int parity = g_run.sum_parity;
  g_run.sums[parity] += value;
  MeetBlock();
  return g_run.sums[parity];
}

const unsigned char* ExchangeInWarp(const char* what, unsigned mask, const void* bytes,
                                    size_t num_bytes) {
  Warp& warp = CurrentWarp();
  if (mask != 0xffffffffu || warp.lanes != kWarp) {
    Stop("%s of part of a warp (mask %08x, %d lanes): only whole warps are emulated", what, mask,
         warp.lanes);
  }
  if (warp.arrived > 0 && std::strcmp(warp.what, what) != 0) {
    Stop("lanes of a warp diverged: this one is at %s, others are at %s", what, warp.what);
  }
  warp.what = what;
  unsigned char* slots = warp.slots[warp.parity];
  if (num_bytes > 0) {
    std::memcpy(slots + static_cast<size_t>(Lane()) * kSlotBytes, bytes, num_bytes);
  }
  if (++warp.arrived < kWarp) {
    Current().state = State::kAtWarp;
    Yield();
    return slots;
  }
  warp.arrived = 0;
  warp.parity ^= 1;
  const int begin = g_run.current / kWarp * kWarp;
  for (int lane = 0; lane < kWarp; ++lane) {
    g_run.fibers[static_cast<size_t>(begin + lane)].state = State::kReady;
  }
  return slots;
}

void BeginCopy(void* to, const void* from, size_t num_bytes, bool valid) {
  if (reinterpret_cast<uintptr_t>(to) % num_bytes != 0 ||
      reinterpret_cast<uintptr_t>(from) % num_bytes != 0) {
    Stop("cp.async of %zu bytes from %p to %p: not aligned", num_bytes, from, to);
  }
  std::memset(to, 0xff, num_bytes);
  Current().copies.Begin({to, from, num_bytes, valid});
}

void CloseCopyGroup() { Current().copies.Close(); }

void WaitForCopyGroups(size_t may_be_unfinished) {
  const bool any = Current().copies.Wait(may_be_unfinished, [](const Copy& copy) {
    if (copy.valid) {
      std::memcpy(copy.to, copy.from, copy.num_bytes);
    } else {
      std::memset(copy.to, 0, copy.num_bytes);
    }
  });
  Current().unfenced = Current().unfenced || any;
}

void FenceCopies() { Current().unfenced = false; }

void BeginProduct(const Product& product) {
  for (int thread = 0; thread < g_run.threads; ++thread) {
    if (!g_run.fibers[static_cast<size_t>(thread)].unfenced) continue;
    Stop("wgmma: thread %d has not fenced what its cp.async wrote", thread);
  }
  const uint64_t operands[] = {product.a, product.b};
  const unsigned char* slots = ExchangeInWarp("wgmma", 0xffffffffu, operands, sizeof(operands));
  if (std::memcmp(slots, operands, sizeof(operands)) != 0) {
    Stop("wgmma: the operands differ from those of lane 0");
  }
  Current().products.Begin(product);
}

void CloseProductGroup() { Current().products.Close(); }

void WaitForProductGroups(size_t may_be_unfinished) {
  Current().products.Wait(may_be_unfinished, [](const Product& product) { product.run(product); });
}

int WarpOfGroup() { return g_run.current / kWarp % 4; }

void Stop(const char* format, ...) {
  std::fprintf(stderr, "cuda emulator: ");
  if (g_run.current >= 0) {
    std::fprintf(stderr, "thread (%u, %u, %u) of block (%u, %u, %u): ", threadIdx.x, threadIdx.y,
                 threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z);
  }
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "\n");
  std::abort();
}

}  // namespace cuda_emulator
