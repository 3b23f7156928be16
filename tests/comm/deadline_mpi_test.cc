// A rank that does not come ends the whole job under the launcher, soon and by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

namespace {

struct Ended {
  std::string output;
  int exit_code;
};

Ended RunJob(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  Ended ended;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
    ended.output.append(buffer, n);
  }
  ended.exit_code = WEXITSTATUS(pclose(pipe));
  return ended;
}

TEST(MpiDeadline, AMissingRankEndsTheJobByName) {
  const auto start = std::chrono::steady_clock::now();
  const Ended ended =
      RunJob("timeout 50 " UNIPOOL_LAUNCHER " -np 3 --tag-output " UNIPOOL_LATE_RANK);
  EXPECT_EQ(ended.exit_code, 128 + SIGABRT) << ended.output;
  EXPECT_THAT(ended.output, ::testing::HasSubstr(
                                "rank 0 waited 500ms for rank 2 in AllReduce #1 of group 'world'"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(Launcher, SaysWhenMpirunIsMissing) {
  const Ended ended = RunJob("PATH=/nonexistent /bin/bash " UNIPOOL_LAUNCHER " -np 2 true");
  EXPECT_EQ(ended.exit_code, 127);
  EXPECT_THAT(ended.output, ::testing::HasSubstr("mpirun is not installed"));
}

TEST(Launcher, PassesTheExitCodeOn) {
  EXPECT_EQ(RunJob(UNIPOOL_LAUNCHER " -np 2 sh -c 'exit 75'").exit_code, 75);
}

TEST(Launcher, KeepsWhatTheUserHasSet) {
  const Ended ended = RunJob("cd / && OMPI_MCA_btl=self,tcp " UNIPOOL_LAUNCHER
                             " -np 1 sh -c 'echo $OMPI_MCA_btl $OMPI_MCA_pml'");
  EXPECT_EQ(ended.output, "self,tcp ob1\n");
}

}  // namespace
