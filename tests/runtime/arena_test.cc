#include "runtime/arena.h"

#include <gtest/gtest.h>

#include <utility>

#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

constexpr int64_t kReserve = 1024;

TEST(Arena, TensorsAreAlignedAndDoNotOverlap) {
  Arena arena = Arena::Create(Device{}, kReserve).value();
  const Tensor a = arena.New({3}), b = arena.New<int64_t>({1, 2}), c = arena.New({0});
  for (const Tensor& tensor : {a, b, c}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % 64, 0u);
  }
  EXPECT_GE(static_cast<char*>(b.data), static_cast<char*>(a.data) + a.bytes());
  EXPECT_EQ(b.dtype, DType::kInt64);
  EXPECT_EQ(arena.used_bytes(), 128);
}

TEST(Arena, ScopesNestAndGiveBack) {
  Arena arena = Arena::Create(Device{}, kReserve).value();
  arena.New({16});
  const void* inner = nullptr;
  {
    ArenaScope outer_scope(arena);
    arena.New({16});
    {
      ArenaScope inner_scope(arena);
      inner = arena.New({100}).data;
    }
    EXPECT_EQ(arena.used_bytes(), 128);
    EXPECT_EQ(arena.New({1}).data, inner);
  }
  EXPECT_EQ(arena.used_bytes(), 64);
}

TEST(Arena, PeakIsTheMaximumInUse) {
  Arena arena = Arena::Create(Device{}, kReserve).value();
  {
    ArenaScope scope(arena);
    arena.New({32});
  }
  EXPECT_EQ(arena.peak_bytes(), 128);
  arena.New({16});
  EXPECT_EQ(arena.used_bytes(), 64);
  EXPECT_EQ(arena.peak_bytes(), 128);
}

TEST(Arena, HandsOutTheLastByteAfterAMove) {
  Arena first = Arena::Create(Device{}, kReserve).value();
  first.New({16});
  Arena arena = std::move(first);
  const Tensor rest = arena.New({(kReserve - 64) / 4});
  rest.as<float>()[rest.numel() - 1] = 1;
  EXPECT_EQ(arena.used_bytes(), kReserve);
  EXPECT_EQ(arena.New({0}).numel(), 0);
}

TEST(Arena, RefusalOfTheSystemIsAStatus) {
  EXPECT_STATUS(Arena::Create(Device{}, int64_t{1} << 52), kResourceExhausted, "cannot allocate");
}

TEST(ArenaDeathTest, OverflowNamesTheSizes) {
  Arena arena = Arena::Create(Device{}, kReserve).value();
  arena.New({16});
  EXPECT_DEATH(arena.New({241}),
               "float32.241. does not fit beside 64 bytes in use of 1024 reserved on cpu");
  EXPECT_DEATH(arena.New({int64_t{1} << 40, int64_t{1} << 30}), "overflow");
  EXPECT_DEATH(arena.New({(int64_t{1} << 61) - 1}), "does not fit");
  EXPECT_DEATH(arena.Release(65), "65 of 64");
}

}  // namespace
}  // namespace unipool
