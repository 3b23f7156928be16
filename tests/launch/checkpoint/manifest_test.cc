// Manifests of former versions load with the present names of their fields.
#include "launch/checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "configs/checkpoint.pb.h"
#include "launch/config/config_fields.h"
#include "runtime/content_hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

// A manifest that was written when divergence.max_skips_in_a_row and divergence.max_rewinds were
// called divergence.most_in_a_row and divergence.most_rewinds.
std::string FormerManifest() {
  std::ifstream file(UNIPOOL_FORMER_MANIFEST, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Manifest, FormerFieldNamesLoadSilently) {
  const testing::TempFolder folder;
  folder.Write("step/manifest.textproto", FormerManifest());
  ::testing::internal::CaptureStderr();
  const auto manifest = ReadManifest(folder.Path("step"));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  ASSERT_OK(manifest);
  EXPECT_EQ(manifest->run().divergence().max_skips_in_a_row(), 4);
  EXPECT_EQ(manifest->run().divergence().max_rewinds(), 5);
  EXPECT_EQ(manifest->run().DebugString().find("most_"), std::string::npos);
  for (const std::string& path : FieldPaths(manifest->run())) {
    EXPECT_TRUE(path == "data.source" || HasValue(manifest->run(), path)) << path;
  }
}

TEST(Manifest, IsWrittenWithThePresentNames) {
  const testing::TempFolder folder;
  folder.Write("step/manifest.textproto", FormerManifest());
  const config::Manifest former = ReadManifest(folder.Path("step")).value();
  ASSERT_OK(WriteManifest(folder.Path("step"), former));
  EXPECT_EQ(folder.ReadAll("step/manifest.textproto").find("most_"), std::string::npos);
  EXPECT_EQ(ReadManifest(folder.Path("step"))->SerializeAsString(), former.SerializeAsString());
}

// The former manifest, sealed, with `line` in its data.
std::string WithDataLine(const std::string& line) {
  std::string text = FormerManifest();
  text.erase(text.rfind("# xxh3_128: "));
  text.insert(text.find("  rewound_steps"), line);
  return text + "# xxh3_128: " + ContentHash::Of(text) + "\n";
}

TEST(Manifest, AFormerManifestHasTheFirstVersionOfTheOrder) {
  const testing::TempFolder folder;
  folder.Write("step/manifest.textproto", FormerManifest());
  EXPECT_EQ(ReadManifest(folder.Path("step"))->data().order_version(), 1);
}

TEST(Manifest, ANewerVersionOfTheOrderIsRefusedAndNoDamage) {
  const testing::TempFolder folder;
  folder.Write("step/manifest.textproto", WithDataLine("  order_version: 3\n"));
  EXPECT_STATUS(ReadManifest(folder.Path("step")), kFailedPrecondition,
                "manifest.textproto: data.order_version is 3, but this program knows versions 1 to "
                "2; use the program that wrote the checkpoint, or a newer one");
  folder.Write("step/manifest.textproto", WithDataLine("  order_version: 0\n"));
  EXPECT_STATUS(ReadManifest(folder.Path("step")), kDataLoss, "order_version is 0, expected 1");
}

TEST(Manifest, BothNamesOfAFieldAreDamage) {
  const testing::TempFolder folder;
  std::string text = FormerManifest();
  text.erase(text.rfind("# xxh3_128: "));
  text.insert(text.find("    most_rewinds"), "    max_rewinds: 2\n");
  text += "# xxh3_128: " + ContentHash::Of(text) + "\n";
  folder.Write("step/manifest.textproto", text);
  EXPECT_STATUS(ReadManifest(folder.Path("step")), kDataLoss,
                "manifest.textproto: run.divergence.most_rewinds: found both this former name and "
                "run.divergence.max_rewinds");
}

}  // namespace
}  // namespace unipool
