#include "runtime/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

TEST(Buffer, IsZeroFilledAndAligned) {
  const Buffer buffer = Buffer::Allocate(Device{}, 100001).value();
  EXPECT_EQ(buffer.bytes(), 100001);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
  const char* bytes = static_cast<const char*>(buffer.data());
  EXPECT_EQ(std::count(bytes, bytes + 100001, 0), 100001);
}

TEST(Buffer, MovesItsMemory) {
  Buffer first = Buffer::Allocate(Device{}, 10).value();
  void* const data = first.data();
  std::memset(data, 7, 10);
  Buffer second = Buffer::Allocate(Device{}, 20).value();
  second = std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.bytes(), 10);
  EXPECT_EQ(static_cast<char*>(second.data())[9], 7);
  EXPECT_EQ(first.data(), nullptr);
  EXPECT_EQ(first.bytes(), 0);
  Buffer& alias = second;
  second = std::move(alias);
  EXPECT_EQ(second.data(), data);
}

TEST(Buffer, NothingCostsNothing) {
  EXPECT_EQ(Buffer::Allocate(Device{}, 0).value().data(), nullptr);
  EXPECT_EQ(Buffer().bytes(), 0);
}

TEST(Buffer, ReservesMoreThanItUses) {
  const Buffer buffer = Buffer::Allocate(Device{}, int64_t{1} << 40).value();
  static_cast<char*>(buffer.data())[(int64_t{1} << 40) - 1] = 1;
}

TEST(Buffer, RefusalOfTheSystemIsAStatus) {
  EXPECT_STATUS(Buffer::Allocate(Device{}, int64_t{1} << 50), kResourceExhausted,
                "cannot allocate 1125899906842624 bytes");
}

}  // namespace
}  // namespace unipool
