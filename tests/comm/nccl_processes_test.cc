// Processes with their own GPUs, over NCCL and without MPI: the rendezvous, and what a failure
// reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/rendezvous_sockets.h"
#include "runtime/build_config.h"
#include "runtime/gpu.h"
#include "tests/support/gpu.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

struct Result {
  std::string output;
  int exit_status;
};

// Runs `ranks` processes on GPU r, or all on `gpu` if it is not -1, and returns their output and
// exit status by rank.
std::vector<Result> RunRanks(int ranks, const std::string& event,
                             const std::string& environment = "", int gpu = -1) {
  const int port = TcpSocket::Listen(0).value().port();
  std::vector<std::FILE*> pipes;
  for (int r = 0; r < ranks; ++r) {
    pipes.push_back(
        popen(absl::StrCat("MASTER_ADDR=127.0.0.1 MASTER_PORT=", port, " WORLD_SIZE=", ranks,
                           " RANK=", r, " LOCAL_RANK=", r, " ", environment, " timeout 60 ",
                           UNIPOOL_NCCL_RANK, " ", gpu < 0 ? r : gpu, " ", event, " 2>&1")
                  .c_str(),
              "r"));
  }
  std::vector<Result> results;
  for (std::FILE* pipe : pipes) {
    Result& one = results.emplace_back();
    char buffer[4096];
    for (size_t n; (n = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
      one.output.append(buffer, n);
    }
    one.exit_status = WEXITSTATUS(pclose(pipe));
  }
  return results;
}

#define SKIP_WITHOUT_GPUS(n) \
  SKIP_WITHOUT_GPU();        \
  if (!testing::GpuIsEmulated() && NumGpus() < (n)) GTEST_SKIP() << "too few GPUs"

TEST(NcclProcesses, MeetAtAPortAndWorkInGroups) {
  SKIP_WITHOUT_GPUS(4);
  for (const int ranks : {1, 2, 4}) {
    for (const Result& rank : RunRanks(ranks, "")) {
      EXPECT_EQ(rank.exit_status, 0) << rank.output;
      EXPECT_EQ(rank.output, "done\n");
    }
  }
}

TEST(NcclProcesses, MeetByAFile) {
  SKIP_WITHOUT_GPUS(2);
  const testing::TempFolder folder;
  for (const Result& rank : RunRanks(2, "", "UNIPOOL_RENDEZVOUS=file://" + folder.Path("meet"))) {
    EXPECT_EQ(rank.exit_status, 0) << rank.output;
  }
}

TEST(NcclProcesses, OthersNameALostRank) {
  SKIP_WITHOUT_GPUS(3);
  const std::vector<Result> ranks = RunRanks(3, "die=1");
  for (const int r : {0, 2}) {
    EXPECT_EQ(ranks[r].exit_status, 76) << ranks[r].output;
    EXPECT_THAT(ranks[r].output, HasSubstr(absl::StrCat("rank ", r, " ")));
    EXPECT_THAT(ranks[r].output, HasSubstr("of group 'expert' (step 3, losses)"));
  }
}

TEST(NcclProcesses, AnErrorOfNcclEndsTheRank) {
  if (!testing::GpuIsEmulated())
    GTEST_SKIP() << "NCCL may not detect the loss of a rank on the same host";
  const std::vector<Result> ranks = RunRanks(2, "hide=1");
  EXPECT_EQ(ranks[0].exit_status, 76);
  EXPECT_THAT(ranks[0].output,
              ContainsRegex("rank 0 on [^ ]+, cuda:0 lost another rank in AllReduce #7 of group "
                            "'expert' \\(step 3, losses\\): NCCL reports 'remote process exited or "
                            "there was a network error'; [^\n]*\n"));
}

TEST(NcclProcesses, AMissingRankIsAHang) {
  SKIP_WITHOUT_GPUS(2);
  const std::vector<Result> ranks = RunRanks(2, "sleep=1");
  EXPECT_EQ(ranks[0].exit_status, 77);
  EXPECT_THAT(ranks[0].output,
              ContainsRegex("no progress for 2s .*:\n  rank 0 on [^ ]+ has waited 2\\."));
  EXPECT_THAT(ranks[0].output, ContainsRegex("rank 1 on [^ ]+ waits for no rank: step 3, losses"));
}

TEST(NcclProcesses, TwoRanksOnOneGpuAreRefusedBeforeNcclIsCalled) {
  SKIP_WITHOUT_GPUS(1);
  for (const Result& rank : RunRanks(2, "", "", 0)) {
    EXPECT_EQ(rank.exit_status, 2);
    EXPECT_THAT(rank.output,
                HasSubstr("ranks started without MPI need NCCL: ranks 0 and 1 share GPU "));
  }
}

TEST(NcclProcesses, AllReportAMissingLibrary) {
  SKIP_WITHOUT_GPUS(2);
  for (const Result& rank : RunRanks(2, "", "UNIPOOL_NCCL=/nonexistent")) {
    EXPECT_EQ(rank.exit_status, 2);
    EXPECT_THAT(rank.output, HasSubstr("need NCCL: rank 0: NCCL was not found (/nonexistent: "));
  }
}

}  // namespace
}  // namespace unipool
