#include "runtime/profiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

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

TEST(Profiler, NothingIsNotedWhenOffOrAbsent) {
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

}  // namespace
}  // namespace unipool
