#include "launch/world/library_environment.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

TEST(RunningProcesses, AreReadWithoutTheCaller) {
  const testing::TempFolder folder;
  const auto running = [&](const char* text) {
    return RunningProcesses(folder.Write("loadavg", text).c_str());
  };
  EXPECT_EQ(running("0.12 0.73 0.80 4/213 15210\n"), 3);
  EXPECT_EQ(running("0.12 0.73 0.80 1/213 15210\n"), 0);
  EXPECT_EQ(running("nonsense"), 0);
  EXPECT_EQ(RunningProcesses(folder.Path("none").c_str()), 0);
}

}  // namespace
}  // namespace unipool
