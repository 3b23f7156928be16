// The worked bytes in data/README.md are the bytes that the writers write. Each block there that
// starts with "```xxd NAME" shows a whole file as printed by xxd, without trailing spaces.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "data/blend.h"
#include "data/indexed_dataset.h"
#include "data/megatron_order.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using Blocks = std::map<std::string, std::string>;  // by file name

Blocks ReadBlocks() {
  std::ifstream readme(UNIPOOL_DATA_README);
  Blocks blocks;
  std::string* block = nullptr;
  for (std::string line; std::getline(readme, line);) {
    absl::string_view name = line;
    if (absl::ConsumePrefix(&name, "```xxd ")) {
      block = &blocks[std::string(name)];
    } else if (absl::StartsWith(line, "```")) {
      block = nullptr;
    } else if (block != nullptr) {
      absl::StrAppend(block, absl::StripTrailingAsciiWhitespace(line), "\n");
    }
  }
  return blocks;
}

std::string Xxd(const std::string& bytes) {
  std::string text;
  for (size_t begin = 0; begin < bytes.size(); begin += 16) {
    const std::string row = bytes.substr(begin, 16);
    std::string hex, ascii;
    for (size_t i = 0; i < row.size(); ++i) {
      const auto byte = static_cast<unsigned char>(row[i]);
      absl::StrAppendFormat(&hex, "%s%02x", i > 0 && i % 2 == 0 ? " " : "", byte);
      ascii.push_back(byte >= ' ' && byte <= '~' ? row[i] : '.');
    }
    const std::string line = absl::StrFormat("%08x: %-39s  %s", begin, hex, ascii);
    absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
  return text;
}

// The example of the README: the documents "Hi" and "a" with the byte tokenizer.
void WriteExample(const testing::TempFolder& folder) {
  auto writer = *IndexedDatasetWriter::Create(folder.Path("x"), 257);
  ASSERT_OK(writer->AddDocument({'H', 'i', 256}));
  ASSERT_OK(writer->AddDocument({'a', 256}));
  ASSERT_OK(writer->Finish());
  const auto dataset = *IndexedDataset::Open(folder.Path("x"));
  const MegatronPart part{.range = {0, 2}, .sequence = 2, .num_samples = 4, .seed = 1234};
  ASSERT_OK(MegatronOrder::Create(*dataset, part, "train", ""));
  ASSERT_OK(Blend::Greedy(NormalizeWeights({3, 1}), 4, folder.Path("x.train-blend"), ""));
}

TEST(DataReadme, WorkedBytesAreThoseOfTheWriters) {
  const testing::TempFolder folder;
  WriteExample(folder);
  Blocks written;
  for (const std::string& name : folder.Names()) written[name] = Xxd(folder.ReadAll(name));
  EXPECT_EQ(written.size(), 4u);
  const Blocks blocks = ReadBlocks();
  for (const auto& [name, block] : blocks) EXPECT_EQ(written.count(name), 1u) << name;
  for (const auto& [name, block] : written) {
    const auto found = blocks.find(name);
    EXPECT_EQ(found == blocks.end() ? "" : found->second, block)
        << "put this into data/README.md:\n```xxd " << name << "\n"
        << block << "```";
  }
}

}  // namespace
}  // namespace unipool
