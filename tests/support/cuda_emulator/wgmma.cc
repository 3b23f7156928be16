#include "runtime/wgmma_cuda.h"

#include <cstring>

namespace unipool {
namespace {

using cuda_emulator::Product;

constexpr uint64_t kSwizzle128 = 1;

// The fields of a matrix descriptor, in bytes.
struct Descriptor {
  explicit Descriptor(uint64_t bits)
      : address((bits & 0x3fff) << 4),
        leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4) {
    if (bits >> 62 != kSwizzle128) cuda_emulator::Stop("wgmma: only 128-byte swizzle is emulated");
  }
  size_t address, leading, stride;
};

// Returns element [outer][inner] of an operand. The swizzle applies to addresses: bits 4..6 are
// xored with bits 7..9.
float ElementAt(const Descriptor& at, bool across, int outer, int inner) {
  size_t offset = at.address;
  if (across) {  // 64 outer elements per panel, eight inner rows per stride
    offset += static_cast<size_t>(outer) / 64 * at.leading + static_cast<size_t>(outer) % 64 * 2;
    offset += static_cast<size_t>(inner) / 8 * at.stride + static_cast<size_t>(inner) % 8 * 128;
  } else {  // eight outer rows per stride
    offset += static_cast<size_t>(outer) / 8 * at.stride + static_cast<size_t>(outer) % 8 * 128;
    offset += static_cast<size_t>(inner) * 2;
  }
  offset ^= (offset >> 7 & 7) << 4;
  uint16_t bits;
  std::memcpy(&bits, cuda_emulator::SharedMemory() + offset, sizeof(bits));
  return __builtin_bit_cast(float, uint32_t{bits} << 16);
}

// Computes the running thread's part of the product.
void Run(const Product& product) {
  const Descriptor a(product.a), b(product.b);
  const int lane = cuda_emulator::Lane(), first_row = cuda_emulator::WarpOfGroup() * 16 + lane / 4;
  float a_values[2][16];
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < 16; ++k) {
      a_values[half][k] = ElementAt(a, product.a_across, first_row + half * 8, k);
    }
  }
  for (int column = 0; column < product.columns; column += 8) {
    for (int right = 0; right < 2; ++right) {
      float sums[2] = {0, 0};
      for (int k = 0; k < 16; ++k) {
        const float b_value = ElementAt(b, product.b_across, column + lane % 4 * 2 + right, k);
        for (int half = 0; half < 2; ++half) sums[half] += a_values[half][k] * b_value;
      }
      for (int half = 0; half < 2; ++half) {
        float* d = product.d + column / 8 * 4 + half * 2 + right;
        *d = product.add ? *d + sums[half] : sums[half];
      }
    }
  }
}

}  // namespace

uint64_t WgmmaOperand(const void* first, int panel_bytes) {
  const auto* byte = static_cast<const unsigned char*>(first);
  const auto address = static_cast<uint64_t>(byte - cuda_emulator::SharedMemory());
  if (address % 16 != 0) cuda_emulator::Stop("wgmma: an operand at %p: not aligned", first);
  return kSwizzle128 << 62 | uint64_t{1024 >> 4} << 32 |
         static_cast<uint64_t>(panel_bytes >> 4) << 16 | address >> 4;
}

void BeginProduct(int columns, bool a_across, bool b_across, float* d, uint64_t a, uint64_t b,
                  bool add) {
  cuda_emulator::BeginProduct({.run = &Run,
                               .columns = columns,
                               .a_across = a_across,
                               .b_across = b_across,
                               .add = add,
                               .d = d,
                               .a = a,
                               .b = b});
}

}  // namespace unipool
