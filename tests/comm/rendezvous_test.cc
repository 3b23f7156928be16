// The rendezvous of ranks without MPI; the ranks are threads here.
#include "comm/rendezvous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/host_name.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using Joined = absl::StatusOr<std::unique_ptr<Rendezvous>>;

int FreePort() { return TcpSocket::Listen(0).value().port(); }
std::string FreeAddress() { return absl::StrCat("tcp://127.0.0.1:", FreePort()); }

// Joins with all `identities` concurrently and returns the results.
std::vector<Joined> JoinAll(const std::vector<LaunchIdentity>& identities,
                            absl::Duration deadline) {
  std::vector<Joined> joined(identities.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < identities.size(); ++i) {
    threads.emplace_back([&, i] { joined[i] = Rendezvous::Join(identities[i], deadline); });
  }
  for (std::thread& thread : threads) thread.join();
  return joined;
}

std::vector<LaunchIdentity> Identities(int size, const std::string& address) {
  std::vector<LaunchIdentity> identities;
  for (int r = 0; r < size; ++r) identities.push_back({r, size, r, address});
  return identities;
}

// Expects that `size` ranks join at `address` and gather their texts.
void ExpectJoinAndGather(int size, const std::string& address) {
  std::vector<Joined> joined = JoinAll(Identities(size, address), absl::Seconds(20));
  std::vector<std::thread> threads;
  for (Joined& rank : joined) {
    ASSERT_OK(rank);
    threads.emplace_back([&rank, size] {
      const auto all = (*rank)->Gather(absl::StrCat("rank ", (*rank)->rank()));
      ASSERT_OK(all);
      for (int r = 0; r < size; ++r) EXPECT_EQ((*all)[r], absl::StrCat("rank ", r));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Rendezvous, RanksJoinAtAPort) {
  for (const int size : {1, 2, 7}) ExpectJoinAndGather(size, FreeAddress());
}

TEST(Rendezvous, RanksJoinByAFileThatIsRemovedAfterwards) {
  const testing::TempFolder folder;
  const std::string path = folder.Path("meet");
  ExpectJoinAndGather(4, "file://" + path);
  EXPECT_TRUE(folder.Names().empty());
}

// The content of a file that a killed run has left.
std::string StaleFile() {
  return absl::StrCat("unipool-rendezvous 1\n", FreePort(), "\n17\n127.0.0.1\n");
}

TEST(Rendezvous, AStaleFileIsReplaced) {
  const testing::TempFolder folder;
  const std::string path = folder.Write("meet", StaleFile());
  ExpectJoinAndGather(3, "file://" + path);
}

TEST(Rendezvous, AStaleFileIsReported) {
  const testing::TempFolder folder;
  const std::string path = folder.Write("meet", StaleFile());
  const auto joined = Rendezvous::Join({1, 2, 1, "file://" + path}, absl::Milliseconds(300));
  EXPECT_STATUS(joined, kDeadlineExceeded,
                absl::StrCat("rank 1 on ", HostName(), " waited 300ms at file://", path,
                             " for rank 0: Connection refused, and the file is "));
}

TEST(Rendezvous, AnUnwritableFolderIsReported) {
  const auto joined =
      Rendezvous::Join({0, 2, 0, "file:///nonexistent/meet"}, absl::Milliseconds(300));
  EXPECT_STATUS(joined, kInvalidArgument,
                "UNIPOOL_RENDEZVOUS: cannot write /nonexistent/meet: No such file or directory");
}

TEST(Rendezvous, APortInUseIsReported) {
  const TcpSocket taken = TcpSocket::Listen(0).value();
  const std::string address = absl::StrCat("tcp://127.0.0.1:", taken.port());
  EXPECT_STATUS(Rendezvous::Join({0, 2, 0, address}, absl::Seconds(5)), kInvalidArgument,
                absl::StrCat("rank 0 on ", HostName(), " cannot listen at ", address,
                             ": the port is in use; choose a free port of this host"));
}

TEST(Rendezvous, MissingRanksAreNamed) {
  const std::string address = FreeAddress();
  std::vector<LaunchIdentity> identities = Identities(4, address);
  identities.erase(identities.begin() + 2);
  EXPECT_STATUS(
      JoinAll(identities, absl::Milliseconds(500))[0], kDeadlineExceeded,
      absl::StrCat("rank 0 on ", HostName(), " waited 500ms at ", address, " for rank 2;"));
  EXPECT_STATUS(Rendezvous::Join(identities[1], absl::Milliseconds(300)), kDeadlineExceeded,
                absl::StrCat("rank 1 on ", HostName(), " waited 300ms at ", address,
                             " for rank 0: Connection refused;"));
}

TEST(Rendezvous, ContradictoryRanksAreReported) {
  std::vector<LaunchIdentity> identities = Identities(2, FreeAddress());
  identities[1].size = 3;
  auto joined = JoinAll(identities, absl::Seconds(10));
  EXPECT_STATUS(joined[0], kInvalidArgument,
                "rank 1 was started as one of 3 ranks, and rank 0 as one of 2");
  EXPECT_STATUS(joined[1], kInvalidArgument, "was started with another number of ranks");
  identities = Identities(3, FreeAddress());
  identities[2].rank = 1;
  EXPECT_STATUS(JoinAll(identities, absl::Seconds(10))[0], kInvalidArgument,
                "two processes were started as rank 1");
}

TEST(Rendezvous, OtherProtocolsAreIgnored) {
  const int port = FreePort();
  std::thread other_client([port] {
    for (int i = 0; i < 200; ++i) {
      const auto socket = TcpSocket::Connect("127.0.0.1", port, absl::Seconds(1));
      const std::string request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
      if (socket.ok() && socket->Send(request.data(), request.size(), absl::InfiniteFuture()).ok())
        break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
  std::thread late([port] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    EXPECT_OK(
        Rendezvous::Join({1, 2, 1, absl::StrCat("tcp://127.0.0.1:", port)}, absl::Seconds(20)));
  });
  EXPECT_OK(Rendezvous::Join({0, 2, 0, absl::StrCat("tcp://127.0.0.1:", port)}, absl::Seconds(20)));
  other_client.join();
  late.join();
}

TEST(Rendezvous, GatherFailsIfARankIsLost) {
  std::vector<Joined> joined = JoinAll(Identities(2, FreeAddress()), absl::Seconds(20));
  joined[1].value().reset();
  EXPECT_STATUS((*joined[0])->Gather("x"), kAborted,
                absl::StrCat("rank 0 on ", HostName(), " lost rank 1 at tcp://"));
}

TEST(Rendezvous, RanksThatCommunicateJoinWithoutAnAddress) {
  for (const int size : {1, 2, 5}) {
    testing::OnRanks(size, [size](Communicator& ranks) {
      auto joined = Rendezvous::JoinAmong(ranks, absl::Seconds(20));
      ASSERT_OK(joined);
      const auto all = (*joined)->Gather(absl::StrCat("rank ", ranks.rank()));
      ASSERT_OK(all);
      for (int r = 0; r < size; ++r) EXPECT_EQ((*all)[r], absl::StrCat("rank ", r));
    });
  }
}

// The messengers of `size` ranks, and the lost ranks that each reported.
struct Messengers {
  explicit Messengers(int size) : lost(size) {
    std::vector<Joined> joined = JoinAll(Identities(size, FreeAddress()), absl::Seconds(20));
    for (int r = 0; r < size; ++r) {
      ranks.push_back((*joined[r])->IntoMessenger([this, r](int who) { lost[r].push_back(who); }));
    }
  }
  // The messages that `rank` receives within 100 ms.
  std::vector<std::string> Receive(int rank) {
    std::vector<std::string> texts;
    for (int i = 0; i < 20; ++i) {
      while (auto message = ranks[rank]->Receive()) {
        texts.push_back(absl::StrCat(message->from, ": ", message->text));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return texts;
  }
  std::vector<std::unique_ptr<Messenger>> ranks;
  std::vector<std::vector<int>> lost;
};

TEST(RendezvousMessenger, MessagesReachAllRanks) {
  Messengers messengers(3);
  messengers.ranks[1]->SendToAll("here");
  messengers.ranks[0]->SendToAll("there");
  EXPECT_THAT(messengers.Receive(0), ::testing::ElementsAre("1: here"));
  EXPECT_THAT(messengers.Receive(2), ::testing::UnorderedElementsAre("1: here", "0: there"));
  EXPECT_THAT(messengers.Receive(1), ::testing::ElementsAre("0: there"));
}

TEST(RendezvousMessenger, ARankThatSaysGoodbyeIsNotLost) {
  Messengers messengers(3);
  messengers.ranks[1].reset();
  messengers.Receive(0);
  messengers.ranks[0].reset();
  messengers.Receive(2);
  EXPECT_TRUE(messengers.lost[0].empty());
  EXPECT_TRUE(messengers.lost[2].empty());
}

TEST(RendezvousMessenger, ALostRankIsReportedToAll) {
  std::vector<Joined> joined = JoinAll(Identities(3, FreeAddress()), absl::Seconds(20));
  std::vector<int> lost_by_first, lost_by_last;
  const auto first = (*joined[0])->IntoMessenger([&](int r) { lost_by_first.push_back(r); });
  const auto last = (*joined[2])->IntoMessenger([&](int r) { lost_by_last.push_back(r); });
  joined[1].value().reset();  // closes without a goodbye, as a process that is killed
  for (int i = 0; i < 400 && lost_by_last.empty(); ++i) {
    EXPECT_FALSE(first->Receive().has_value());
    EXPECT_FALSE(last->Receive().has_value());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(lost_by_first, std::vector<int>{1});
  EXPECT_EQ(lost_by_last, std::vector<int>{1});
}

// LaunchIdentityFromEnvironment with no other variables of a launch than `variables`.
absl::StatusOr<std::optional<LaunchIdentity>> IdentityFrom(
    const std::map<std::string, std::string>& variables) {
  for (const char* name :
       {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "UNIPOOL_RENDEZVOUS",
        "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "TORCHELASTIC_USE_AGENT_STORE"}) {
    unsetenv(name);
  }
  for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  return LaunchIdentityFromEnvironment();
}

std::map<std::string, std::string> Torchrun() {
  return {{"RANK", "3"},
          {"WORLD_SIZE", "8"},
          {"LOCAL_RANK", "1"},
          {"MASTER_ADDR", "node1"},
          {"MASTER_PORT", "29500"}};
}

TEST(LaunchIdentity, IsReadFromTorchrun) {
  auto variables = Torchrun();
  auto identity = IdentityFrom(variables).value().value();
  EXPECT_EQ(std::tuple(identity.rank, identity.size, identity.local_rank), std::tuple(3, 8, 1));
  EXPECT_EQ(identity.address, "tcp://node1:29500");
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  EXPECT_EQ(IdentityFrom(variables).value().value().address, "tcp://node1:29501");
}

TEST(LaunchIdentity, IsReadFromSlurmIfARendezvousIsSet) {
  std::map<std::string, std::string> variables = {
      {"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "6"}, {"SLURM_LOCALID", "2"}};
  EXPECT_FALSE(IdentityFrom(variables).value().has_value());
  variables["UNIPOOL_RENDEZVOUS"] = "file:///scratch/meet";
  const auto identity = IdentityFrom(variables).value().value();
  EXPECT_EQ(std::tuple(identity.rank, identity.size, identity.local_rank), std::tuple(5, 6, 2));
  EXPECT_EQ(identity.address, "file:///scratch/meet");
}

TEST(LaunchIdentity, IsAbsentWithoutALauncher) {
  EXPECT_FALSE(IdentityFrom({}).value().has_value());
  EXPECT_FALSE(IdentityFrom({{"MASTER_ADDR", "node1"}, {"LOCAL_RANK", "0"}}).value().has_value());
  EXPECT_EQ(IdentityFrom({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}}).value()->size,
            1);
}

TEST(ForeignLaunch, IsSeveralProcessesThatAreNotConnected) {
  EXPECT_EQ(FindForeignLaunch().error, "");
  setenv("SLURM_STEP_NUM_TASKS", "1", 1);  // as in a shell of srun --pty
  EXPECT_EQ(FindForeignLaunch().error, "");
  setenv("SLURM_STEP_NUM_TASKS", "8", 1);
  setenv("SLURM_PROCID", "3", 1);
  EXPECT_EQ(FindForeignLaunch().rank, 3);
  EXPECT_THAT(FindForeignLaunch().error, ::testing::HasSubstr("8 tasks without MPI"));
  unsetenv("SLURM_STEP_NUM_TASKS");
  setenv("PMI_SIZE", "4", 1);
  EXPECT_THAT(FindForeignLaunch().error, ::testing::HasSubstr("another MPI started 4 processes"));
  unsetenv("PMI_SIZE");
}

TEST(LaunchIdentity, MissingAndWrongVariablesAreNamed) {
  for (const auto& [name, value] : Torchrun()) {
    auto variables = Torchrun();
    variables.erase(name);
    EXPECT_STATUS(IdentityFrom(variables), kInvalidArgument, name + " is not set");
  }
  const std::pair<const char*, const char*> wrong[] = {
      {"RANK", "8"},        {"RANK", "x"},
      {"WORLD_SIZE", "0"},  {"MASTER_PORT", "99999"},
      {"LOCAL_RANK", "-1"}, {"UNIPOOL_RENDEZVOUS", "udp://a"}};
  for (const auto& [name, value] : wrong) {
    auto variables = Torchrun();
    variables[name] = value;
    EXPECT_STATUS(IdentityFrom(variables), kInvalidArgument,
                  absl::StrCat(name, " = '", value, "' is "));
  }
}

}  // namespace
}  // namespace unipool
