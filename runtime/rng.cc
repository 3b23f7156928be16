#include "runtime/rng.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace unipool {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53u;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u;
constexpr uint32_t kWeyl1 = 0xBB67AE85u;
constexpr int kRounds = 10;

// Maps to the midpoints of 2^52 equal parts of (0, 1): one bit fewer than a double holds, so that
// adding 0.5 is exact and the last midpoint does not round to 1.
double ToUnit(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 12;
  return (static_cast<double>(bits) + 0.5) * 0x1.0p-52;
}

}  // namespace

uint64_t StreamId(absl::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  return hash;
}

std::array<uint32_t, 4> Rng::Block(uint64_t block) const {
  std::array<uint32_t, 4> counter = {
      static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
      static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)};
  uint32_t key0 = static_cast<uint32_t>(seed_), key1 = static_cast<uint32_t>(seed_ >> 32);
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kMultiplier0) * counter[0];
    const uint64_t product1 = static_cast<uint64_t>(kMultiplier1) * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

uint64_t Rng::Word64(uint64_t i) const {
  const auto words = Block(i / 2);
  return static_cast<uint64_t>(words[2 * (i % 2)]) << 32 | words[2 * (i % 2) + 1];
}

double Rng::Uniform(uint64_t i) const {
  const uint64_t word = Word64(i);
  return ToUnit(static_cast<uint32_t>(word >> 32), static_cast<uint32_t>(word));
}

// Box-Muller: one block of four words gives the two normals 2b and 2b + 1.
void Rng::FillNormal(float stddev, const Tensor& tensor) const {
  float* out = tensor.as<float>();
  const int64_t count = tensor.numel();
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < (count + 1) / 2; ++b) {
    const auto words = Block(static_cast<uint64_t>(b));
    const double radius = stddev * std::sqrt(-2.0 * std::log(ToUnit(words[0], words[1])));
    const double angle = 2.0 * std::numbers::pi * ToUnit(words[2], words[3]);
    out[2 * b] = static_cast<float>(radius * std::cos(angle));
    if (2 * b + 1 < count) out[2 * b + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

void Rng::FillUniform(float low, float high, const Tensor& tensor) const {
  float* out = tensor.as<float>();
  const int64_t count = tensor.numel();
  const float below_high = std::nextafter(high, low);  // used if rounding would give `high`
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    const double value = low + (double{high} - low) * Uniform(static_cast<uint64_t>(i));
    out[i] = std::min(static_cast<float>(value), below_high);
  }
}

}  // namespace unipool
