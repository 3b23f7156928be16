// Fuzzes an .idx file beside a .bin of 64 bytes. If it opens, all tokens must lie in the .bin.
#include <vector>

#include "data/indexed_dataset.h"
#include "tests/fuzz/fuzz_target.h"

using unipool::testing::FuzzFile;
using unipool::testing::Require;
using unipool::testing::RequireOneLine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const FuzzFile index(".idx");
  static const FuzzFile bin(".bin");
  static const bool filled = (bin.Fill(std::vector<char>(64, 1).data(), 64), true);
  (void)filled;
  index.Fill(data, size);
  const auto dataset = unipool::IndexedDataset::Open(index.Stem());
  if (!dataset.ok()) {
    RequireOneLine(std::string(dataset.status().message()));
    return 0;
  }
  const int64_t tokens = (*dataset)->num_tokens();
  Require(0 <= tokens && tokens <= 64, "the tokens lie in the .bin");
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  (*dataset)->Read(0, absl::MakeSpan(ids));
  return 0;
}
