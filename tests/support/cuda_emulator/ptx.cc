#include <cstring>

#include "runtime/ptx_cuda.h"

namespace unipool {
namespace {

using cuda_emulator::ExchangeInWarp;
using cuda_emulator::kSlotBytes;

constexpr unsigned kAllLanes = 0xffffffffu;

float HalfOf(uint32_t pair, int half) {
  return __builtin_bit_cast(float, half == 0 ? pair << 16 : pair & 0xffff0000u);
}

struct Fragments {
  uint32_t a[4];
  uint32_t b[2];
};

Fragments FragmentsOf(const unsigned char* slots, int lane) {
  Fragments fragments;
  std::memcpy(&fragments, slots + static_cast<size_t>(lane) * kSlotBytes, sizeof(fragments));
  return fragments;
}

// Returns A[row][k] and B[k][column] from the fragments of the lanes that hold them.
float AOf(const unsigned char* slots, int row, int k) {
  const int lane = row % 8 * 4 + k % 8 / 2;
  return HalfOf(FragmentsOf(slots, lane).a[row / 8 + k / 8 * 2], k % 2);
}
float BOf(const unsigned char* slots, int k, int column) {
  return HalfOf(FragmentsOf(slots, column * 4 + k % 8 / 2).b[k / 8], k % 2);
}

void LoadMatrices(const char* what, int count, bool transposed, uint32_t* out,
                  const void* shared_row) {
  if (cuda_emulator::Lane() < 8 * count && reinterpret_cast<uintptr_t>(shared_row) % 16 != 0) {
    cuda_emulator::Stop("%s from %p: not aligned to 16 bytes", what, shared_row);
  }
  const unsigned char* slots = ExchangeInWarp(what, kAllLanes, &shared_row, sizeof(shared_row));
  const int major = cuda_emulator::Lane() / 4, minor = cuda_emulator::Lane() % 4 * 2;
  for (int matrix = 0; matrix < count; ++matrix) {
    uint16_t halves[2];
    for (int half = 0; half < 2; ++half) {
      const int row = transposed ? minor + half : major, column = transposed ? major : minor + half;
      const uint16_t* address;
      std::memcpy(&address, slots + static_cast<size_t>(matrix * 8 + row) * kSlotBytes,
                  sizeof(address));
      halves[half] = address[column];
    }
    out[matrix] = uint32_t{halves[1]} << 16 | halves[0];
  }
  // All lanes have read their rows before any of them continues and overwrites memory.
  ExchangeInWarp(what, kAllLanes, nullptr, 0);
}

}  // namespace

void MmaBf16M16N8K16(float* d, const uint32_t* a, const uint32_t* b) {
  Fragments mine;
  std::memcpy(mine.a, a, sizeof(mine.a));
  std::memcpy(mine.b, b, sizeof(mine.b));
  const unsigned char* slots = ExchangeInWarp("mma", kAllLanes, &mine, sizeof(mine));
  const int lane = cuda_emulator::Lane();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += AOf(slots, row, k) * BOf(slots, k, column);
    d[i] += sum;
  }
}

void LoadMatrix4(uint32_t* out, const void* shared_row) {
  LoadMatrices("ldmatrix.x4", 4, false, out, shared_row);
}
void LoadMatrix4Transposed(uint32_t* out, const void* shared_row) {
  LoadMatrices("ldmatrix.x4.trans", 4, true, out, shared_row);
}
void LoadMatrix2(uint32_t* out, const void* shared_row) {
  LoadMatrices("ldmatrix.x2", 2, false, out, shared_row);
}
void LoadMatrix2Transposed(uint32_t* out, const void* shared_row) {
  LoadMatrices("ldmatrix.x2.trans", 2, true, out, shared_row);
}

}  // namespace unipool
