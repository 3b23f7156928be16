#include "runtime/profiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace unipool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Profiler, ScopesMeasureThemselvesAndTheirChildren) {
  Profiler profiler;
  profiler.set_enabled(true);
  {
    Profiler::Scope outer(&profiler, "outer");
    Profiler::Scope inner(&profiler, "inner");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_GE(profiler.Seconds("inner"), 0.005);
  EXPECT_GE(profiler.Seconds("outer"), profiler.Seconds("inner"));
  EXPECT_EQ(profiler.Entries().front().name, std::string("outer"));
}

TEST(Profiler, RecordsNothingWhenOffOrAbsent) {
  Profiler profiler;
  { Profiler::Scope scope(&profiler, "off"); }
  { Profiler::Scope scope(nullptr, "absent"); }
  EXPECT_TRUE(profiler.Entries().empty());
  EXPECT_EQ(profiler.Seconds("off"), 0);
}

TEST(Profiler, EqualNamesAtOtherAddressesAreOneEntry) {
  Profiler profiler;
  const std::string a = "gemm", b = "gemm";
  profiler.Add(a.c_str(), 1);
  profiler.Add(b.c_str(), 2);
  ASSERT_EQ(profiler.Entries().size(), 1u);
  EXPECT_EQ(profiler.Entries()[0].calls, 2);
  EXPECT_EQ(profiler.Seconds("gemm"), 3);
}

TEST(Profiler, ResetKeepsNamesAndForgetsTimes) {
  Profiler profiler;
  profiler.Add("gemm", 1);
  profiler.Reset();
  ASSERT_EQ(profiler.Entries().size(), 1u);
  EXPECT_EQ(profiler.Entries()[0].calls, 0);
  EXPECT_EQ(profiler.Seconds("gemm"), 0);
  EXPECT_THAT(profiler.Table(1), Not(HasSubstr("gemm")));
}

TEST(Profiler, TableIsSortedByTimeWithShares) {
  Profiler profiler;
  profiler.Add("small", 1);
  profiler.Add("large", 3);
  const std::string table = profiler.Table(4);
  EXPECT_LT(table.find("large"), table.find("small"));
  EXPECT_THAT(table, HasSubstr("3.0000   75.0%"));
  EXPECT_THAT(table, HasSubstr("1.0000   25.0%"));
}

// A clock that the test advances by hand.
class FakeClock : public DeviceClock {
 public:
  int64_t Mark() override {
    marks_.push_back(now);
    return static_cast<int64_t>(marks_.size()) - 1;
  }
  double Seconds(int64_t begin, int64_t end) override { return marks_.at(end) - marks_.at(begin); }
  void Restart() override { marks_.clear(); }

  double now = 0;

 private:
  std::vector<double> marks_;
};

TEST(Profiler, WithADeviceClockScopesMeasureTheDevice) {
  Profiler profiler;
  auto owned = std::make_unique<FakeClock>();
  FakeClock& clock = *owned;
  profiler.set_device_clock(std::move(owned));
  profiler.set_enabled(true);
  for (int i = 0; i < 2; ++i) {
    Profiler::Scope outer(&profiler, "outer");
    clock.now += 1;
    Profiler::Scope inner(&profiler, "inner");
    clock.now += 2;
  }
  EXPECT_EQ(profiler.Seconds("outer"), 6);
  EXPECT_EQ(profiler.Seconds("inner"), 4);
  { Profiler::Scope again(&profiler, "inner"); }  // indices of marks start at 0 again
  EXPECT_EQ(profiler.Seconds("inner"), 4);
  EXPECT_EQ(profiler.Entries().at(1).calls, 3);
}

}  // namespace
}  // namespace unipool
