// Sizes that saturate instead of overflowing, for plans of configs that nobody can run.
#pragma once

#include <cstdint>
#include <limits>

namespace unipool {

// A count of at least 0. Sums and products above the largest int64_t are the largest int64_t.
class Saturating {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): plain counts mix with saturating ones.
  constexpr Saturating(int64_t value) : value_(value) {}
  constexpr int64_t value() const { return value_; }

  friend constexpr Saturating operator+(Saturating a, Saturating b) {
    int64_t sum = 0;
    return __builtin_add_overflow(a.value_, b.value_, &sum) ? Max() : Saturating(sum);
  }
  friend constexpr Saturating operator*(Saturating a, Saturating b) {
    int64_t product = 0;
    return __builtin_mul_overflow(a.value_, b.value_, &product) ? Max() : Saturating(product);
  }
  friend constexpr Saturating operator/(Saturating a, int64_t b) { return a.value_ / b; }
  friend constexpr bool operator<(Saturating a, Saturating b) { return a.value_ < b.value_; }
  Saturating& operator+=(Saturating other) { return *this = *this + other; }

 private:
  static constexpr int64_t Max() { return std::numeric_limits<int64_t>::max(); }

  int64_t value_;
};

}  // namespace unipool
