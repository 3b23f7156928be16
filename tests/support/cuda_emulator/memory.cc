#include "tests/support/cuda_emulator/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/support/cuda_emulator/fibers.h"

namespace cuda_emulator {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;
constexpr unsigned char kCanary = 0xa5;
// of larger memory only the begin is filled with NaN
constexpr size_t kPoisonedBytes = size_t{1} << 20;

size_t RoundUp(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// Pages [begin, begin + mapped) without the guard pages; the memory is at their end.
struct Allocation {
  unsigned char* begin;
  size_t mapped;
  size_t bytes;
};

std::recursive_mutex g_mutex;
int g_accesses = 0;  // number of DeviceAccess objects of the thread that holds the mutex

std::map<unsigned char*, Allocation>& Allocations() {
  static auto* allocations = new std::map<unsigned char*, Allocation>;
  return *allocations;
}

bool AllAre(const unsigned char* begin, const unsigned char* end, unsigned char value) {
  return std::all_of(begin, end, [&](unsigned char byte) { return byte == value; });
}

void ProtectAll(int protection) {
  for (const auto& [data, allocation] : Allocations()) {
    mprotect(allocation.begin, allocation.mapped, protection);
  }
}

}  // namespace

DeviceAccess::DeviceAccess() {
  g_mutex.lock();
  if (g_accesses++ == 0) ProtectAll(PROT_READ | PROT_WRITE);
}

DeviceAccess::~DeviceAccess() {
  if (--g_accesses == 0) ProtectAll(PROT_NONE);
  g_mutex.unlock();
}

void* AllocateDevice(size_t bytes) {
  const size_t mapped = RoundUp(std::max<size_t>(bytes, 1), kPage);
  void* pages = mmap(nullptr, mapped + 2 * kPage, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  unsigned char* begin = static_cast<unsigned char*>(pages) + kPage;
  unsigned char* data = begin + mapped - RoundUp(std::max<size_t>(bytes, 1), kAlignment);
  DeviceAccess access;
  mprotect(begin, mapped, PROT_READ | PROT_WRITE);
  std::memset(begin, kCanary, static_cast<size_t>(data - begin));
  std::memset(data, 0xff, std::min(bytes, kPoisonedBytes));
  std::memset(data + bytes, kCanary, static_cast<size_t>(begin + mapped - data) - bytes);
  Allocations()[data] = {begin, mapped, bytes};
  return data;
}

void FreeDevice(void* data) {
  DeviceAccess access;
  const auto found = Allocations().find(static_cast<unsigned char*>(data));
  if (found == Allocations().end()) Stop("cudaFree(%p): not device memory", data);
  const auto [begin, mapped, bytes] = found->second;
  if (!AllAre(begin, found->first, kCanary)) Stop("bytes before device memory %p changed", data);
  if (!AllAre(found->first + bytes, begin + mapped, kCanary)) {
    Stop("bytes after device memory %p of %zu bytes changed", data, bytes);
  }
  Allocations().erase(found);
  munmap(begin - kPage, mapped + 2 * kPage);
}

bool IsDevice(const void* data, size_t bytes) {
  const std::lock_guard lock(g_mutex);
  const auto* first = static_cast<const unsigned char*>(data);
  for (const auto& [start, allocation] : Allocations()) {
    if (first >= start && first + bytes <= start + allocation.bytes) return true;
  }
  return false;
}

void FillDevice(void* data, int value, size_t bytes) {
  DeviceAccess access;
  auto* begin = static_cast<unsigned char*>(data);
  const auto address = reinterpret_cast<uintptr_t>(data);
  const size_t head = std::min(bytes, RoundUp(address, kPage) - address);
  const size_t whole = (bytes - head) / kPage * kPage;
  std::memset(begin, value, head);
  if (value != 0 || madvise(begin + head, whole, MADV_DONTNEED) != 0) {
    std::memset(begin + head, value, whole);
  }
  std::memset(begin + head + whole, value, bytes - head - whole);
}

}  // namespace cuda_emulator
