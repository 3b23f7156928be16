#include "data/prepare/text_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "data/prepare/json_lines.h"
#include "tests/support/packed.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using testing::Gzip;
using testing::TempFolder;
using testing::Zstd;

std::string SomeText(size_t bytes) {
  std::mt19937 random(5);
  std::string text;
  while (text.size() < bytes) absl::StrAppend(&text, random() % 1000, " word\n");
  return text;
}

absl::StatusOr<std::string> ReadAll(const std::string& path, size_t at_a_time) {
  absl::StatusOr<std::unique_ptr<TextSource>> source = TextSource::Open(path);
  if (!source.ok()) return source.status();
  std::string text, part(at_a_time, '\0');
  while (true) {
    const absl::StatusOr<size_t> bytes = (*source)->Read(part.data(), part.size());
    if (!bytes.ok()) return bytes.status();
    if (*bytes == 0) return text;
    text.append(part, 0, *bytes);
  }
}

TEST(TextSource, DecompressesForAnySizeOfRead) {
  const TempFolder folder;
  const std::string text = SomeText(1'000'000);
  for (const std::string& path :
       {folder.Write("a.txt", text), folder.Write("a.gz", Gzip(text)),
        folder.Write("a.zst", Zstd(text)),
        // Several members (one of them empty) form one text.
        folder.Write("b.gz", Gzip(text.substr(0, 10)) + Gzip("") + Gzip(text.substr(10))),
        folder.Write("b.zst", Zstd(text.substr(0, 10)) + Zstd("") + Zstd(text.substr(10)))}) {
    EXPECT_TRUE(ReadAll(path, 1 << 18).value() == text) << path;
    EXPECT_TRUE(ReadAll(path, 1013).value() == text) << path;
  }
}

TEST(TextSource, TruncatedDataAreNamedWithTheByte) {
  const TempFolder folder;
  const std::string text = SomeText(300);
  for (const auto& [name, packed] : {std::pair{"a.gz", Gzip(text)}, {"a.zst", Zstd(text)}}) {
    for (size_t bytes = 0; bytes < packed.size(); ++bytes) {
      const auto read = ReadAll(folder.Write(name, packed.substr(0, bytes)), 1000);
      EXPECT_STATUS(read, kDataLoss, absl::StrCat(name, ": truncated at byte ", bytes));
    }
  }
}

TEST(TextSource, DamagedDataAreNamed) {
  const TempFolder folder;
  const std::string text = SomeText(100'000);
  for (const auto& [name, packed] : {std::pair{"a.gz", Gzip(text)}, {"a.zst", Zstd(text)}}) {
    std::string flipped = packed;
    flipped[packed.size() / 2] ^= 0x10;
    EXPECT_STATUS(ReadAll(folder.Write(name, flipped), 1000), kDataLoss, name);
    EXPECT_STATUS(ReadAll(folder.Write(name, "plain text"), 1000), kDataLoss, "at byte 0");
    EXPECT_STATUS(ReadAll(folder.Write(name, packed + "trailing"), 1000), kDataLoss, name);
  }
}

TEST(TextSource, ZerosAfterCompressedDataArePassedOver) {
  const TempFolder folder;
  const std::string text = SomeText(1000);
  for (const size_t zeros : {size_t{1}, size_t{512}, size_t{1} << 18}) {
    const std::string padding(zeros, '\0');
    for (const auto& [name, packed] : {std::pair{"a.gz", Gzip(text)}, {"a.zst", Zstd(text)}}) {
      EXPECT_TRUE(ReadAll(folder.Write(name, packed + padding), 1000).value() == text) << name;
      EXPECT_TRUE(ReadAll(folder.Write(name, packed + padding + packed), 1000).value() ==
                  text + text);
      EXPECT_STATUS(ReadAll(folder.Write(name, packed + padding + "xx"), 1000), kDataLoss,
                    absl::StrCat("at byte ", packed.size() + zeros));
      EXPECT_STATUS(ReadAll(folder.Write(name, padding + packed), 1000), kDataLoss, "at byte 0");
    }
  }
}

TEST(TextSource, TheContentNamesTheCompression) {
  const TempFolder folder;
  const std::string skippable("\x5f\x2a\x4d\x18\x02\0\0\0no", 10);
  for (const char* name : {"a", "a.txt", "a.jsonl.1", "a.GZ", "a.zstd", "a.gz"}) {
    EXPECT_EQ(ReadAll(folder.Write(name, Gzip("text")), 10).value(), "text") << name;
    EXPECT_EQ(ReadAll(folder.Write(name, Zstd("text")), 10).value(), "text") << name;
    EXPECT_EQ(ReadAll(folder.Write(name, skippable + Zstd("text")), 10).value(), "text") << name;
  }
  for (const std::string text : {"", "\x1f", "a", "abc", "\x28\xb5\x2f"}) {
    EXPECT_EQ(ReadAll(folder.Write("b", text), 10).value(), text);
  }
  EXPECT_EQ(TextSource::CompressionOf("A.JSONL.GZ"), "gz");
  EXPECT_EQ(TextSource::CompressionOf("a.Zstd"), "zst");
  EXPECT_EQ(TextSource::CompressionOf("gz"), "");
}

TEST(TextSource, AMissingFileIsNamed) {
  EXPECT_STATUS(TextSource::Open("/nowhere/a.gz"), kNotFound, "/nowhere/a.gz: cannot open");
  EXPECT_STATUS(TextSource::Open("/dev/zero"), kInvalidArgument, "/dev/zero: a device");
}

TEST(LineReader, BlocksAreCompleteLinesThatFormTheText) {
  const TempFolder folder;
  const std::string text = SomeText(900'000) + std::string(400'000, 'x') + "\nlast";
  const std::string path = folder.Write("a.gz", Gzip(text));
  for (const size_t min_bytes : {size_t{1}, size_t{1000}, size_t{300'000}, size_t{1} << 40}) {
    LineReader reader = LineReader::Open(path).value();
    std::string block, all;
    while (*reader.NextBlock(min_bytes, &block)) {
      all += block;
      EXPECT_TRUE(block.size() >= min_bytes || all.size() == text.size());
      EXPECT_TRUE(block.back() == '\n' || all.size() == text.size());
    }
    EXPECT_TRUE(all == text) << min_bytes;
    EXPECT_EQ(reader.file_bytes(), static_cast<int64_t>(folder.ReadAll("a.gz").size()));
  }
}

TEST(LineReader, PartsEndWhereTheRuleAllows) {
  const TempFolder folder;
  const std::string text = SomeText(900'000) + std::string(400'000, 'x') + " last";
  const std::string path = folder.Write("a.gz", Gzip(text));
  const auto last_space = [](absl::string_view so_far, size_t searched) {
    const size_t at = so_far.rfind(' ');
    return at == absl::string_view::npos || at <= searched ? 0 : at;
  };
  for (const size_t min_bytes : {size_t{1}, size_t{1000}, size_t{300'000}, size_t{1} << 40}) {
    LineReader reader = LineReader::Open(path).value();
    std::string part, all;
    bool more = true;
    while (more) {
      more = reader.NextPart({min_bytes, size_t{1} << 40, last_space}, &part).value();
      EXPECT_TRUE(!more || all.empty() || part[0] == ' ');
      all += part;
    }
    EXPECT_TRUE(all == text) << min_bytes;
  }
}

TEST(LineReader, APartWithoutAnEndIsGivenAtTheLimit) {
  const TempFolder folder;
  LineReader reader = LineReader::Open(folder.Write("a", std::string(2'000'000, 'x'))).value();
  const LineReader::PartRules rules{1000, 600'000, [](absl::string_view, size_t) { return 0; }};
  std::string part;
  EXPECT_TRUE(reader.NextPart(rules, &part).value());
  EXPECT_GT(part.size(), 600'000u);
  const size_t first = part.size();
  while (reader.NextPart(rules, &part).value()) continue;
  EXPECT_LT(first, 1'000'000u);
}

}  // namespace
}  // namespace unipool
