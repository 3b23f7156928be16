#include "launch/world/world.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "configs/run.pb.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using AgreedStatuses = std::vector<absl::Status>;

// What Agree returns on each of `ranks` ranks when rank r passes mine(r).
AgreedStatuses Agreed(int ranks, const std::function<absl::Status(int)>& mine) {
  AgreedStatuses agreed(ranks);
  testing::OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) {
    const auto world = World::Create(config::Run(), std::move(comm)).value();
    agreed[world->rank()] = world->Agree(mine(world->rank()));
  });
  return agreed;
}

// Rank `reporter` has `message` and reports it; the others have its code and do not report it.
void ExpectReportedBy(const AgreedStatuses& agreed, int reporter, absl::StatusCode code,
                      const std::string& message) {
  const std::string on_others = "rank " + std::to_string(reporter) + " reported an error";
  for (int rank = 0; rank < static_cast<int>(agreed.size()); ++rank) {
    SCOPED_TRACE(rank);
    EXPECT_EQ(agreed[rank].code(), code);
    EXPECT_EQ(agreed[rank].message(), rank == reporter ? message : on_others);
    EXPECT_EQ(MustReport(agreed[rank]), rank == reporter);
  }
}

TEST(Agree, IsOkIfAllRanksAre) {
  for (const int ranks : {1, 2, 7}) {
    for (const absl::Status& status : Agreed(ranks, [](int) { return absl::OkStatus(); })) {
      EXPECT_OK(status);
    }
  }
}

TEST(Agree, TheRankThatFailedReportsAndAllHaveItsCode) {
  for (const int ranks : {1, 2, 4}) {
    for (int failed = 0; failed < ranks; ++failed) {
      SCOPED_TRACE(ranks * 10 + failed);
      const AgreedStatuses agreed = Agreed(ranks, [&](int rank) {
        return rank == failed ? absl::DataLossError("my disk") : absl::OkStatus();
      });
      ExpectReportedBy(agreed, failed, absl::StatusCode::kDataLoss, "my disk");
    }
  }
}

TEST(Agree, TheLowestOfSeveralFailedRanksReports) {
  const AgreedStatuses agreed = Agreed(4, [](int rank) {
    if (rank == 1) return absl::OutOfRangeError("first");
    if (rank == 3) return absl::InternalError("second");
    return absl::OkStatus();
  });
  ExpectReportedBy(agreed, 1, absl::StatusCode::kOutOfRange, "first");
}

TEST(Agree, AnErrorAffectsOnlyItsCall) {
  testing::OnRanksOwned(3, [](std::unique_ptr<Communicator> comm) {
    const auto world = World::Create(config::Run(), std::move(comm)).value();
    const bool failed = world->rank() == 2;
    const absl::Status once =
        world->Agree(failed ? absl::NotFoundError("my file") : absl::OkStatus());
    EXPECT_STATUS(once, kNotFound, failed ? "my file" : "rank 2 reported an error");
    EXPECT_EQ(MustReport(once), failed);
    EXPECT_OK(world->Agree(absl::OkStatus()));
  });
}

TEST(MustReport, TheFirstRankReportsAnErrorThatAllHave) {
  const absl::Status same = absl::InvalidArgumentError("pool.top_k");
  unsetenv("OMPI_COMM_WORLD_RANK");
  EXPECT_TRUE(MustReport(same));
  setenv("OMPI_COMM_WORLD_RANK", "0", 1);
  EXPECT_TRUE(MustReport(same));
  setenv("OMPI_COMM_WORLD_RANK", "1", 1);
  EXPECT_FALSE(MustReport(same));
  unsetenv("OMPI_COMM_WORLD_RANK");
}

// Sets environment variables for a scope.
class Settings {
 public:
  explicit Settings(std::map<std::string, std::string> values) : values_(std::move(values)) {
    for (const auto& [name, value] : values_) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Settings() {
    for (const auto& [name, value] : values_) unsetenv(name.c_str());
  }

 private:
  const std::map<std::string, std::string> values_;
};

TEST(World, RanksOnCpusThatMpiDidNotStartAreRefused) {
  const Settings torchrun({{"RANK", "1"},
                           {"WORLD_SIZE", "4"},
                           {"LOCAL_RANK", "1"},
                           {"MASTER_ADDR", "localhost"},
                           {"MASTER_PORT", "29500"}});
  const absl::Status status = World::Create(config::Run()).status();
  EXPECT_STATUS(status, kInvalidArgument,
                "the environment describes 4 ranks that MPI did not start, but ranks on CPUs need "
                "MPI; start them with launch/mpirun.sh -np 4 or srun --mpi=pmix");
  EXPECT_FALSE(MustReport(status));
}

TEST(World, EachProcessReportsAnIncompleteLaunchEnvironment) {
  const Settings half(std::map<std::string, std::string>{{"RANK", "1"}});
  const absl::Status status = World::Create(config::Run()).status();
  EXPECT_STATUS(status, kInvalidArgument, "WORLD_SIZE is not set, but other variables of a launch");
  EXPECT_TRUE(MustReport(status));
}

TEST(World, ExpertRanksThatDoNotDivideTheRanksAreRefused) {
  config::Run run;
  run.mutable_parallel()->set_expert_parallel(2);
  testing::OnRanksOwned(3, [&](std::unique_ptr<Communicator> comm) {
    EXPECT_STATUS(World::Create(run, std::move(comm)), kInvalidArgument, "3");
  });
}

}  // namespace
}  // namespace unipool
