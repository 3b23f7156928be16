// Checks without a GPU that cuDNN supports attention on a described one. The results are compared
// in cuda/attention_test.cc.
#include <cudnn_frontend.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/cudnn_graph_cuda.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

constexpr char kH200[] =
    R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],)"
    R"("regsPerBlock":65536,"multiProcessorCount":132,"warpSize":32,)"
    R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,)"
    R"("reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,)"
    R"("maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":9013,"isTccDriver":0,)"
    R"("supportCoopLaunch":1,"totalGlobalMem":150000000000,"smClockRateKHz":1980000,)"
    R"("memClockRateKHz":3201000,"l2CacheSize":62914560,"cudaDeviceId":0,"deviceVer":900,)"
    R"("driverVer":13000,"deviceName":"NVIDIA H200","finalized":true})";

// Returns an empty string if cuDNN can be queried on this machine, else the reason. cuDNN needs the
// driver's library; the toolkit's stub is sufficient, because an opened library is found by its
// name.
std::string WhyNot() {
  const absl::StatusOr<std::string> version = OpenCudnn();
  if (!version.ok()) return std::string(version.status().message());
  for (const char* driver : {"libcuda.so.1", UNIPOOL_DRIVER_STUB}) {
    if (dlopen(driver, RTLD_NOW | RTLD_GLOBAL) != nullptr) return "";
  }
  return "neither libcuda.so.1 nor the toolkit's stub was found";
}

absl::Status FindEngineForH200(const CudnnAttentionShape& shape) {
  const std::string json = kH200;
  auto properties = std::make_shared<cudnn_frontend::DeviceProperties>();
  auto error = properties->deserialize(std::vector<uint8_t>(json.begin(), json.end()));
  if (error.is_bad()) return absl::InternalError(error.get_message());
  cudnn_frontend::graph::Graph graph;
  graph.set_device_properties(properties).set_sm_version(90);
  DescribeAttention(shape, graph);
  return FindEngine(graph, nullptr);
}

class CudnnAttention : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNot(); !why.empty()) GTEST_SKIP() << why;
  }
  static void ExpectBoth(int64_t sequences, int64_t sequence, int64_t heads, int64_t kv_heads,
                         int64_t head_dim) {
    for (const bool backward : {false, true}) {
      SCOPED_TRACE(::testing::Message() << sequences << " x " << sequence << ", " << heads << "/"
                                        << kv_heads << " x " << head_dim << " " << backward);
      EXPECT_OK(FindEngineForH200({.backward = backward,
                                   .sequences = sequences,
                                   .sequence = sequence,
                                   .heads = heads,
                                   .kv_heads = kv_heads,
                                   .head_dim = head_dim}));
    }
  }
};

TEST_F(CudnnAttention, IsComputedAtThePapersSizes) {
  for (const int64_t sequences : {1, 16, 64}) ExpectBoth(sequences, 1024, 12, 12, 64);
}

TEST_F(CudnnAttention, IsComputedForGroupedHeads) {
  ExpectBoth(16, 1024, 12, 4, 64);
  ExpectBoth(16, 1024, 12, 1, 64);
}

TEST_F(CudnnAttention, IsComputedForWiderHeads) {
  for (const int64_t head_dim : {8, 40, 96, 128}) ExpectBoth(4, 1024, 8, 8, head_dim);
}

TEST_F(CudnnAttention, IsComputedForOddSequences) {
  for (const int64_t sequence : {2, 37, 150, 1000, 4096}) ExpectBoth(3, sequence, 4, 2, 64);
}

TEST_F(CudnnAttention, AnUnsupportedShapeGivesAStatus) {
  constexpr CudnnAttentionShape kForward{.backward = false,
                                         .sequences = 2,
                                         .sequence = 128,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_dim = 64};
  ASSERT_OK(FindEngineForH200(kForward));
  CudnnAttentionShape short_one = kForward, odd = kForward, wide = kForward;
  short_one.sequence = 1;
  short_one.backward = true;
  odd.head_dim = 12;
  wide.head_dim = 264;
  wide.backward = true;
  EXPECT_STATUS(FindEngineForH200(short_one), kUnimplemented, "not supported");
  EXPECT_STATUS(FindEngineForH200(odd), kUnimplemented, "multiple of 8");
  EXPECT_STATUS(FindEngineForH200(wide), kUnimplemented, "256");
}

}  // namespace
}  // namespace unipool
