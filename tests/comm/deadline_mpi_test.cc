// A rank that misses the deadline ends the whole job under the launcher, with an error that names
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

namespace {

struct Result {
  std::string output;
  int exit_code;
};

Result RunJob(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  Result result;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
    result.output.append(buffer, n);
  }
  result.exit_code = WEXITSTATUS(pclose(pipe));
  return result;
}

TEST(MpiDeadline, AMissingRankEndsTheJobByName) {
  const auto start = std::chrono::steady_clock::now();
  const Result result =
      RunJob("timeout 50 " UNIPOOL_LAUNCHER " -np 3 --tag-output " UNIPOOL_LATE_RANK);
  EXPECT_EQ(result.exit_code, 128 + SIGABRT) << result.output;
  EXPECT_THAT(result.output, ::testing::ContainsRegex("rank 0 on [^ ]+ waited 500ms for rank 2 in "
                                                      "AllReduce #1 of group 'world'"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(Launcher, ReportsAMissingMpirun) {
  const Result result = RunJob("PATH=/nonexistent /bin/bash " UNIPOOL_LAUNCHER " -np 2 true");
  EXPECT_EQ(result.exit_code, 127);
  EXPECT_THAT(result.output, ::testing::HasSubstr("mpirun is not installed"));
}

TEST(Launcher, PassesTheExitCodeThrough) {
  EXPECT_EQ(RunJob(UNIPOOL_LAUNCHER " -np 2 sh -c 'exit 75'").exit_code, 75);
}

TEST(Launcher, KeepsVariablesThatTheUserSet) {
  const Result result = RunJob("cd / && OMPI_MCA_btl=self,tcp " UNIPOOL_LAUNCHER
                               " -np 1 sh -c 'echo $OMPI_MCA_btl $OMPI_MCA_pml'");
  EXPECT_EQ(result.output, "self,tcp ob1\n");
}

}  // namespace
