// A checkpoint's manifest: as bytes, and, where it is a text of the message, under a seal that fits
// it. One that is accepted holds tables that can be relied on.
#include <filesystem>

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

void ReadIt(const std::string& folder) {
  const auto manifest = unipool::ReadManifest(folder);
  if (!manifest.ok()) return RequireOneLine(std::string(manifest.status().message()));
  for (const auto& tensor : manifest->tensors()) {
    Require(unipool::NumElements(tensor) >= 0, "a stored tensor has a size");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const FuzzFile place("");
  static const FuzzFile file("/" + std::string(unipool::kManifestName));
  std::filesystem::create_directories(place.path());
  file.Fill(data, size);
  ReadIt(place.path());

  Silent silent;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&silent);
  unipool::config::Manifest manifest;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (!parser.ParseFromString(text, &manifest)) return 0;
  if (unipool::WriteManifest(place.path(), manifest).ok()) ReadIt(place.path());
  return 0;
}
