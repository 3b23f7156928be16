// Compares ten steps of the tiny run with an independent implementation:
// tests/launch/train/reference.py, a float64 PyTorch program written from the description alone,
// trained on the same bytes from the same initial weights. To regenerate the numbers after an
// intended change of the tiny run or of the training method (needs torch, numpy and safetensors):
//
//   python3 tests/launch/train/reference.py --program build/launch/unipool --golden
//
// Do not regenerate them if a change was not meant to affect training: that change has a bug.
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "configs/run.pb.h"
#include "launch/train/trainer.h"
#include "launch/world/world.h"
#include "tests/support/on_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool {
namespace {

using testing::Variant;

constexpr double kTolerance = 1e-5;
constexpr double kNormTolerance = 1e-4;  // of the norm

struct GoldenStep {
  double lm_loss;
  double pool_loss;
  double layer_aux_loss;
  double grad_norm;
};

// Written by the reference: the validation losses before and after training, and the steps.
constexpr double kDenseValidation[] = {5.5057464, 4.2705501};
constexpr GoldenStep kDense[] = {
    {5.5187369, 0.0000000, 0.0000000, 1.2593637}, {5.5244612, 0.0000000, 0.0000000, 1.1078514},
    {5.3276848, 0.0000000, 0.0000000, 1.0837683}, {5.1577661, 0.0000000, 0.0000000, 0.9549415},
    {4.9189152, 0.0000000, 0.0000000, 1.2125593}, {4.7187278, 0.0000000, 0.0000000, 0.9015519},
    {4.5753692, 0.0000000, 0.0000000, 0.8930003}, {4.5093982, 0.0000000, 0.0000000, 0.8846806},
    {4.4134195, 0.0000000, 0.0000000, 0.8991646}, {4.3439894, 0.0000000, 0.0000000, 0.8792080},
};

constexpr double kVanillaValidation[] = {5.5041344, 4.2960595};
constexpr GoldenStep kVanilla[] = {
    {5.5186556, 0.0000000, 0.0305645, 1.2430697}, {5.5234395, 0.0000000, 0.0303681, 1.0876844},
    {5.3422647, 0.0000000, 0.0304431, 1.0739985}, {5.1835864, 0.0000000, 0.0305666, 0.9618169},
    {4.9586962, 0.0000000, 0.0305320, 1.3053921}, {4.7531267, 0.0000000, 0.0307967, 0.9567302},
    {4.6115550, 0.0000000, 0.0305896, 0.9697687}, {4.5357295, 0.0000000, 0.0312217, 1.0539298},
    {4.4390056, 0.0000000, 0.0311218, 0.9808873}, {4.3692095, 0.0000000, 0.0308923, 0.8957311},
};

constexpr double kUniPoolValidation[] = {5.5029317, 4.2660910};
constexpr GoldenStep kUniPool[] = {
    {5.5174095, 0.0000000, 0.0000000, 1.2544960}, {5.5217574, 0.0219741, 0.0000000, 1.0956128},
    {5.3181704, 0.0214436, 0.0000000, 1.0518911}, {5.1358159, 0.0232069, 0.0000000, 0.9256652},
    {4.8915930, 0.0213104, 0.0000000, 1.2123447}, {4.7072950, 0.0188773, 0.0000000, 0.8859239},
    {4.5820824, 0.0163384, 0.0000000, 0.9308990}, {4.5088194, 0.0131341, 0.0000000, 0.8927815},
    {4.4169245, 0.0116326, 0.0000000, 0.9203585}, {4.3443414, 0.0117276, 0.0000000, 0.8794860},
};

constexpr double kUniPoolTop2Validation[] = {5.5036948, 4.2604005};
constexpr GoldenStep kUniPoolTop2[] = {
    {5.5175391, 0.0000000, 0.0000000, 1.2584885}, {5.5225536, 0.0217387, 0.0000000, 1.1094225},
    {5.3127484, 0.0210506, 0.0000000, 1.0483638}, {5.1215837, 0.0236966, 0.0000000, 0.9191777},
    {4.8828694, 0.0230518, 0.0000000, 1.1722005}, {4.7025247, 0.0219881, 0.0000000, 0.8879897},
    {4.5681657, 0.0189861, 0.0000000, 0.8934723}, {4.4972160, 0.0162322, 0.0000000, 0.8728198},
    {4.4139858, 0.0142450, 0.0000000, 0.9271242}, {4.3344114, 0.0141622, 0.0000000, 0.8800804},
};

constexpr double kSigmoidValidation[] = {5.5035507, 4.2621218};
constexpr GoldenStep kSigmoid[] = {
    {5.5169803, 0.0000000, 0.0000000, 1.2464929}, {5.5231768, 0.0000000, 0.0000000, 1.0888662},
    {5.3197378, 0.0000000, 0.0000000, 1.0549521}, {5.1465744, 0.0000000, 0.0000000, 0.9362369},
    {4.9086897, 0.0000000, 0.0000000, 1.2569902}, {4.7070833, 0.0000000, 0.0000000, 0.8995276},
    {4.5657808, 0.0000000, 0.0000000, 0.8918498}, {4.5046240, 0.0000000, 0.0000000, 0.8782916},
    {4.4071287, 0.0000000, 0.0000000, 0.8984612}, {4.3344222, 0.0000000, 0.0000000, 0.8448920},
};

constexpr double kUniPoolLocalValidation[] = {5.5029317, 4.2971832};
constexpr GoldenStep kUniPoolLocal[] = {
    {5.5174095, 0.0151459, 0.0795621, 1.2551410}, {5.5217574, 0.0220364, 0.0726546, 1.1054890},
    {5.3245413, 0.0194991, 0.0709801, 1.0645940}, {5.1416917, 0.0164278, 0.0580062, 0.9829433},
    {4.9165468, 0.0106911, 0.0431347, 1.3274975}, {4.7453038, 0.0052077, 0.0169480, 0.9854512},
    {4.6098319, 0.0047239, 0.0172209, 1.0516801}, {4.5269614, 0.0029388, 0.0093622, 1.0257191},
    {4.4378941, 0.0015850, 0.0056922, 0.9723699}, {4.3640168, 0.0015753, 0.0060279, 0.8986951},
};

class GoldenTest : public ::testing::Test {
 protected:
  static std::vector<StepRecord> Train(Variant variant) {
    const testing::TempFolder folder;
    const std::string prefix = folder.Path("text");
    testing::WriteTinyDataset(prefix);
    const config::Run run = testing::TinyRun(variant, prefix);
    const auto corpus = Corpus::Open(run.data()).value();
    std::vector<StepRecord> records;
    testing::OnRanksOwned(1, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto trainer = Trainer::Create(run, *corpus, *world).value();
      ASSERT_OK(trainer->Run([&](const StepRecord& record) {
        records.push_back(record);
        return absl::OkStatus();
      }));
    });
    return records;
  }

  static void ExpectGolden(Variant variant, absl::Span<const double> validation,
                           absl::Span<const GoldenStep> steps) {
    const std::vector<StepRecord> records = Train(variant);
    ASSERT_EQ(records.size(), steps.size() + 1);
    EXPECT_NEAR(records.front().validation->loss, validation[0], kTolerance);
    EXPECT_NEAR(records.back().validation->loss, validation[1], kTolerance);
    for (size_t i = 0; i < steps.size(); ++i) {
      const StepRecord& record = records[i + 1];
      SCOPED_TRACE(::testing::Message() << "step " << record.step);
      EXPECT_NEAR(record.lm_loss, steps[i].lm_loss, kTolerance);
      EXPECT_NEAR(record.pool_loss, steps[i].pool_loss, kTolerance);
      EXPECT_NEAR(record.layer_aux_loss, steps[i].layer_aux_loss, kTolerance);
      EXPECT_NEAR(record.grad_norm, steps[i].grad_norm, steps[i].grad_norm * kNormTolerance);
    }
  }
};

TEST_F(GoldenTest, DenseFollowsTheReference) {
  ExpectGolden(Variant::kDense, kDenseValidation, kDense);
}

TEST_F(GoldenTest, VanillaMoeFollowsTheReference) {
  ExpectGolden(Variant::kVanilla, kVanillaValidation, kVanilla);
}

TEST_F(GoldenTest, UniPoolFollowsTheReference) {
  ExpectGolden(Variant::kUniPool, kUniPoolValidation, kUniPool);
}

TEST_F(GoldenTest, UniPoolOfTwoExpertsATokenFollowsTheReference) {
  ExpectGolden(Variant::kUniPoolTop2, kUniPoolTop2Validation, kUniPoolTop2);
}

TEST_F(GoldenTest, SigmoidBalancedByABiasFollowsTheReference) {
  ExpectGolden(Variant::kSigmoid, kSigmoidValidation, kSigmoid);
}

// With accumulation: the balance losses of a micro-batch use the counts of the previous one.
TEST_F(GoldenTest, UniPoolWithTheAuthorsStatisticsFollowsTheReference) {
  ExpectGolden(Variant::kUniPoolLocal, kUniPoolLocalValidation, kUniPoolLocal);
}

}  // namespace
}  // namespace unipool
