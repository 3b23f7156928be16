// Collectives over NCCL between threads with their own GPUs.
#include "comm/nccl_communicator.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/gpu_identity.h"
#include "comm/host_name.h"
#include "runtime/buffer.h"
#include "runtime/copy.h"
#include "tests/comm/collective_checks.h"
#include "tests/comm/nccl_ranks.h"
#include "tests/comm/through_gpu.h"
#include "tests/support/gpu.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using testing::CollectiveCheck;
using testing::HostTensors;
using testing::NcclRank;
using testing::OnNcclRanks;

constexpr Device kFirstGpu{DeviceType::kCuda, 0};

#define SKIP_WITHOUT_NCCL_RANKS(ranks) \
  if (const char* why = testing::WhyNoNcclRanks(ranks); *why != '\0') GTEST_SKIP() << why

// Device of the tensors, and how host tensors are transferred.
enum class Memory : uint8_t { kGpu, kHost, kHostOverGpu };

class NcclCollective : public ::testing::TestWithParam<std::tuple<CollectiveCheck, int, Memory>> {};

TEST_P(NcclCollective, HoldsOnEveryRank) {
  const auto& [check, ranks, memory] = GetParam();
  SKIP_WITHOUT_NCCL_RANKS(ranks);
  const bool over_host = memory == Memory::kHost;
  OnNcclRanks(ranks, over_host ? HostTensors::kOverHost : HostTensors::kOverGpu,
              [&, where = memory](NcclRank rank) {
                if (where != Memory::kGpu) return check.check(*rank.comm);
                check.check(*testing::ThroughGpu(std::move(rank.comm), rank.gpu));
              });
}

// NCCL guarantees no order of summation.
std::vector<CollectiveCheck> ChecksOfNccl() {
  std::vector<CollectiveCheck> checks;
  for (const CollectiveCheck& check : testing::CollectiveChecks()) {
    if (check.claim != std::string("SumsAreInRankOrder")) checks.push_back(check);
  }
  return checks;
}

std::string NameOf(const ::testing::TestParamInfo<NcclCollective::ParamType>& params) {
  const auto& [check, ranks, memory] = params.param;
  const char* const where = memory == Memory::kGpu    ? "Gpu"
                            : memory == Memory::kHost ? "Host"
                                                      : "HostOverGpu";
  return check.claim + std::string("On") + std::to_string(ranks) + where;
}

INSTANTIATE_TEST_SUITE_P(Gpu, NcclCollective,
                         ::testing::Combine(::testing::ValuesIn(ChecksOfNccl()),
                                            ::testing::Values(1, 2, 4),
                                            ::testing::Values(Memory::kGpu)),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Host, NcclCollective,
                         ::testing::Combine(::testing::ValuesIn(ChecksOfNccl()),
                                            ::testing::Values(2),
                                            ::testing::Values(Memory::kHost, Memory::kHostOverGpu)),
                         NameOf);

TEST(NcclCommunicator, BFloat16RowsAreCopiedBitForBit) {
  SKIP_WITHOUT_NCCL_RANKS(3);
  OnNcclRanks(3, HostTensors::kOverGpu, [](NcclRank rank) {
    const auto stream = Stream::Create(rank.gpu);
    const Buffer memory = Buffer::Allocate(rank.gpu, 64).value();
    const Tensor input = Tensor::View(memory.data(), DType::kBFloat16, {3, 2}, rank.gpu);
    Tensor output = input;
    output.data = static_cast<char*>(memory.data()) + 32;
    std::vector<BFloat16> rows, expected, got(6);
    for (int r = 0; r < 3; ++r) {
      for (int i = 0; i < 2; ++i) {
        rows.push_back({static_cast<uint16_t>(0x7f80 + rank.comm->rank() * 8 + r * 2 + i)});
        expected.push_back({static_cast<uint16_t>(0x7f80 + r * 8 + rank.comm->rank() * 2 + i)});
      }
    }
    CopyTensor(Tensor::Of(rows.data(), {3, 2}), input, *stream);
    const std::vector<int64_t> ones(3, 1);
    rank.comm->AllToAllV(input, ones, output, ones, *stream);
    ReadTensor(output, got.data());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].bits, expected[i].bits) << i;
  });
}

TEST(NcclCommunicator, ACallIsPendingInTheLogUntilTheGpuCompletesIt) {
  SKIP_WITHOUT_NCCL_RANKS(2);
  OnNcclRanks(2, HostTensors::kOverGpu, [](NcclRank rank) {
    rank.session->RecordCompletedCalls();
    EXPECT_FALSE(rank.log.OldestPending().has_value());
    rank.log.progress().SetStep(12);
    rank.log.progress().Set("gradients");
    rank.comm->Barrier();
    EXPECT_EQ(rank.log.OldestPending()->ToString(),
              "AllReduce #5 of group 'world' (step 12, gradients)");
    rank.session->RecordCompletedCalls();
    EXPECT_FALSE(rank.log.OldestPending().has_value());
  });
}

TEST(NcclSession, AMissingRankIsATimeout) {
  SKIP_WITHOUT_NCCL_RANKS(1);
  CallLog log;
  auto session = testing::NewNcclSession(kFirstGpu, absl::Milliseconds(300), &log).value();
  EXPECT_STATUS(session->CreateWorld(session->NewId().value(), 0, 2), kDeadlineExceeded,
                absl::StrCat("rank 0 on ", HostName(),
                             ", cuda:0: NCCL did not connect 2 ranks within 300ms"));
}

TEST(NcclSession, GpusHaveDifferentIdentities) {
  SKIP_WITHOUT_NCCL_RANKS(2);
  EXPECT_EQ(GpuIdentity(kFirstGpu), GpuIdentity(kFirstGpu));
  EXPECT_NE(GpuIdentity(kFirstGpu), GpuIdentity({DeviceType::kCuda, 1}));
}

// Sets an environment variable for a scope.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    setenv(name, value, 1);
  }
  ~Setting() { old_.empty() ? unsetenv(name_) : setenv(name_, old_.c_str(), 1); }

 private:
  const char* const name_;
  std::string old_;
};

TEST(NcclSession, AMissingLibraryIsReportedInOneLine) {
  SKIP_WITHOUT_NCCL_RANKS(1);
  const Setting library("UNIPOOL_NCCL", "/nonexistent/libnccl.so.2");
  CallLog log;
  EXPECT_STATUS(
      testing::NewNcclSession(kFirstGpu, absl::Seconds(1), &log), kUnavailable,
      "NCCL was not found (/nonexistent/libnccl.so.2: cannot open shared object file: No "
      "such file or directory); set UNIPOOL_NCCL to the path of libnccl.so.2, or unset it");
}

TEST(NcclSession, AnOldVersionIsRefused) {
  if (!testing::GpuIsEmulated())
    GTEST_SKIP() << "only the emulated NCCL can report another version";
  const Setting version("FAKE_NCCL_VERSION", "21705");
  CallLog log;
  EXPECT_STATUS(testing::NewNcclSession(kFirstGpu, absl::Seconds(1), &log), kUnavailable,
                "is NCCL 2.17.5; install 2.18 or later");
}

}  // namespace
}  // namespace unipool
