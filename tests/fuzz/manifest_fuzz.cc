// Fuzzes the manifest of a checkpoint: the bytes as they are, and, if they parse as the text of the
// message, rewritten with a valid hash. An accepted manifest must have valid tensor sizes.
#include <filesystem>

#include "configs/checkpoint.pb.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "launch/checkpoint/manifest.h"
#include "tests/fuzz/fuzz_target.h"

using unipool::testing::FuzzFile;
using unipool::testing::Require;
using unipool::testing::RequireOneLine;

namespace {

class Silent : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

void CheckRead(const std::string& folder) {
  const auto manifest = unipool::ReadManifest(folder);
  if (!manifest.ok()) return RequireOneLine(std::string(manifest.status().message()));
  for (const auto& tensor : manifest->tensors()) {
    Require(unipool::NumElements(tensor) >= 0, "a stored tensor has a size");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const FuzzFile folder("");
  static const FuzzFile file("/" + std::string(unipool::kManifestName));
  std::filesystem::create_directories(folder.path());
  file.Fill(data, size);
  CheckRead(folder.path());

  Silent silent;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&silent);
  unipool::config::Manifest manifest;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (!parser.ParseFromString(text, &manifest)) return 0;
  if (unipool::WriteManifest(folder.path(), manifest).ok()) CheckRead(folder.path());
  return 0;
}
