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
