#include "data/indexed_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::TempFolder;
using Documents = std::vector<std::vector<int32_t>>;

constexpr int64_t kHeader = 34;

void Write(const std::string& prefix, int64_t vocab, const Documents& documents) {
  auto writer = IndexedDatasetWriter::Create(prefix, vocab);
  ASSERT_OK(writer);
  for (const auto& tokens : documents) ASSERT_OK((*writer)->AddDocument(tokens));
  ASSERT_OK((*writer)->Finish());
}

std::vector<int32_t> ReadAll(const IndexedDataset& dataset) {
  std::vector<int32_t> tokens(dataset.num_tokens());
  dataset.Read(0, absl::MakeSpan(tokens));
  return tokens;
}

template <typename T>
std::string With(std::string bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
  return bytes;
}

TEST(IndexedDataset, ReadsWhatWasWritten) {
  const TempFolder folder;
  Write(folder.Path("x"), 50257, {{1, 2, 3}, {50256}, {}, {7, 65}});
  const auto dataset = IndexedDataset::Open(folder.Path("x"));
  ASSERT_OK(dataset);
  EXPECT_EQ((*dataset)->num_sequences(), 3);
  EXPECT_EQ((*dataset)->num_documents(), 4);
  EXPECT_THAT(ReadAll(**dataset), ElementsAre(1, 2, 3, 50256, 7, 65));
  EXPECT_EQ((*dataset)->SequenceStart(2), 4);
  EXPECT_EQ((*dataset)->SequenceStart(3), 6);
  EXPECT_EQ((*dataset)->DocumentStart(3), 2);
  std::vector<int32_t> middle(2);
  (*dataset)->Read(3, absl::MakeSpan(middle));
  EXPECT_THAT(middle, ElementsAre(50256, 7));
}

TEST(IndexedDataset, HashesDistinguishTokensAndLengths) {
  const TempFolder folder;
  const std::vector<int32_t> many(200'000, 7);  // a .bin that is sampled
  std::vector<int32_t> start = many;
  start.front() = 8;
  Write(folder.Path("a"), 257, {many, {1, 2}});
  Write(folder.Path("same"), 257, {many, {1, 2}});
  Write(folder.Path("start"), 257, {start, {1, 2}});
  Write(folder.Path("end"), 257, {many, {1, 3}});
  Write(folder.Path("lengths"), 257, {many, {1}, {2}});
  const auto a = IndexedDataset::Open(folder.Path("a")).value();
  for (const char* name : {"same", "start", "end", "lengths"}) {
    const auto other = IndexedDataset::Open(folder.Path(name)).value();
    const bool same_tokens = name == std::string("same") || name == std::string("lengths");
    EXPECT_EQ(a->TokenSampleHash() == other->TokenSampleHash(), same_tokens) << name;
    EXPECT_EQ(a->IndexHash() == other->IndexHash(), name != std::string("lengths")) << name;
  }
}

TEST(IndexedDataset, FilesAreMegatronsByteForByte) {
  const TempFolder folder;
  Write(folder.Path("x"), 50257, {{1, 258}, {}, {3}});
  EXPECT_EQ(folder.ReadAll("x.bin"), std::string("\1\0\2\1\3\0", 6));
  const std::string header("MMIDIDX\0\0\1\0\0\0\0\0\0\0\x8\2\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0", 34);
  const std::string lengths("\2\0\0\0\1\0\0\0", 8);
  const std::string offsets("\0\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0", 16);
  const std::string documents("\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0",
                              32);
  EXPECT_EQ(folder.ReadAll("x.idx"), header + lengths + offsets + documents);
}

TEST(IndexedDataset, VocabularyChoosesTheWidthOfIds) {
  const TempFolder folder;
  for (const auto& [vocab, bytes] : {std::pair{65500, 2}, {65501, 4}}) {
    Write(folder.Path("x"), vocab, {{vocab - 1, 0}});
    const auto dataset = IndexedDataset::Open(folder.Path("x"));
    ASSERT_OK(dataset);
    EXPECT_EQ((*dataset)->token_bytes(), bytes);
    EXPECT_THAT(ReadAll(**dataset), ElementsAre(vocab - 1, 0));
  }
}

TEST(IndexedDataset, ReadsOneByteIds) {
  const TempFolder folder;
  Write(folder.Path("x"), 65500, {{0x2001, 0x4003}});
  const std::string idx = folder.ReadAll("x.idx");
  folder.Write("x.idx", With(With<uint8_t>(idx, 17, 1), kHeader, int32_t{4}));
  const auto dataset = IndexedDataset::Open(folder.Path("x"));
  ASSERT_OK(dataset);
  EXPECT_EQ((*dataset)->token_bytes(), 1);
  EXPECT_THAT(ReadAll(**dataset), ElementsAre(0x01, 0x20, 0x03, 0x40));
}

// Writes a pair of one sequence whose ids have the dtype `code`.
template <typename T>
void WriteTyped(const TempFolder& folder, uint8_t code, const std::vector<T>& ids) {
  Write(folder.Path("x"), 257, {{1}});
  const std::string idx = folder.ReadAll("x.idx");
  folder.Write("x.idx", With(With(idx, 17, code), kHeader, static_cast<int32_t>(ids.size())));
  folder.Write("x.bin", {reinterpret_cast<const char*>(ids.data()), sizeof(T) * ids.size()});
}

TEST(IndexedDataset, ReadsEveryTypeOfIntegers) {
  const TempFolder folder;
  const auto expect = [&folder](const char* type, const std::vector<int32_t>& ids) {
    const auto dataset = IndexedDataset::Open(folder.Path("x"));
    ASSERT_OK(dataset);
    EXPECT_STREQ((*dataset)->token_type(), type);
    EXPECT_EQ(ReadAll(**dataset), ids);
  };
  WriteTyped<uint8_t>(folder, 1, {0, 255});
  expect("uint8", {0, 255});
  WriteTyped<int8_t>(folder, 2, {0, 127, -1});
  expect("int8", {0, 127, -1});
  WriteTyped<int16_t>(folder, 3, {0, 32767, -1});
  expect("int16", {0, 32767, -1});
  WriteTyped<int32_t>(folder, 4, {0, 2147483647, -1});
  expect("int32", {0, 2147483647, -1});
  WriteTyped<int64_t>(folder, 5, {0, 50256, -1});
  expect("int64", {0, 50256, -1});
  WriteTyped<uint16_t>(folder, 8, {0, 65535});
  expect("uint16", {0, 65535});
}

TEST(IndexedDataset, LargeIdsKeepTheirSignAndStayOutsideOfAnyVocabulary) {
  const TempFolder folder;
  const std::vector<int64_t> ids = {int64_t{1} << 32, -(int64_t{1} << 32), (int64_t{1} << 31) - 1};
  WriteTyped(folder, 5, ids);
  const auto dataset = IndexedDataset::Open(folder.Path("x")).value();
  EXPECT_THAT(ReadAll(*dataset), ElementsAre(INT32_MAX, INT32_MIN, INT32_MAX));
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(dataset->IdAt(i), ids[i]);
}

TEST(IndexedDataset, AMultimodalIndexOfTextIsRead) {
  const TempFolder folder;
  Write(folder.Path("x"), 257, {{1, 2, 3}, {4, 5}, {6}});
  folder.Write("x.idx", folder.ReadAll("x.idx") + std::string(3, '\0'));
  const auto dataset = IndexedDataset::Open(folder.Path("x"));
  ASSERT_OK(dataset);
  EXPECT_EQ((*dataset)->num_sequences(), 3);
  EXPECT_THAT(ReadAll(**dataset), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST(IndexedDataset, AMultimodalIndexOfOtherModesIsRefused) {
  const TempFolder folder;
  Write(folder.Path("x"), 257, {{1, 2, 3}, {4, 5}, {6}});
  folder.Write("x.idx", folder.ReadAll("x.idx") + std::string("\0\1\0", 3));
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument,
                "x.idx: multimodal index: sequence 1 has mode 1 at byte 103, expected 0 (text)");
}

TEST(IndexedDataset, SupportsZeroDocumentsAndEmptyDocuments) {
  const TempFolder folder;
  for (const Documents& documents : {Documents{}, Documents{{}}, Documents{{}, {}}}) {
    Write(folder.Path("x"), 257, documents);
    const auto dataset = IndexedDataset::Open(folder.Path("x"));
    ASSERT_OK(dataset);
    EXPECT_EQ((*dataset)->num_sequences(), 0);
    EXPECT_EQ((*dataset)->num_tokens(), 0);
    EXPECT_EQ((*dataset)->num_documents(), static_cast<int64_t>(documents.size()));
    EXPECT_THAT(ReadAll(**dataset), IsEmpty());
  }
}

TEST(IndexedDataset, ReadsAcrossManyPages) {
  const TempFolder folder;
  std::vector<int32_t> tokens(1'500'000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7 % 50000);
  Write(folder.Path("x"), 50257, {tokens, tokens});
  const auto dataset = IndexedDataset::Open(folder.Path("x"));
  ASSERT_OK(dataset);
  std::vector<int32_t> seen(tokens.size());
  (*dataset)->Read(static_cast<int64_t>(tokens.size()), absl::MakeSpan(seen));
  EXPECT_EQ(seen, tokens);
}

TEST(IndexedDataset, MissingFilesAreNamed) {
  const TempFolder folder;
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kNotFound, "x.idx: cannot open");
  Write(folder.Path("x"), 257, {{1}});
  unlink(folder.Path("x.bin").c_str());
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kNotFound, "x.bin: cannot open");
}

TEST(IndexedDataset, ATruncatedIndexIsRefused) {
  const TempFolder folder;
  Write(folder.Path("x"), 257, {{1, 2, 3}, {4}, {}, {5}});
  const std::string idx = folder.ReadAll("x.idx");
  for (size_t bytes = 0; bytes < idx.size(); ++bytes) {
    folder.Write("x.idx", idx.substr(0, bytes));
    EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument,
                  "x.idx: " + std::to_string(bytes) + " bytes");
  }
  folder.Write("x.idx", idx + '\0');
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument, "x.idx: ");
}

TEST(IndexedDataset, ABinOfTheWrongSizeIsRefusedWithTheSequence) {
  const TempFolder folder;
  Write(folder.Path("x"), 257, {{1, 2, 3}, {4, 5}, {6}});
  const std::string bin = folder.ReadAll("x.bin");
  folder.Write("x.bin", bin.substr(0, 11));
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument,
                "x.bin: 11 bytes, the index needs 12 (sequence 2 ends at byte 12)");
  folder.Write("x.bin", bin.substr(0, 7));
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument,
                "x.bin: 7 bytes, the index needs 12 (sequence 1 ends at byte 10)");
  folder.Write("x.bin", "");
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument, "(sequence 0 ends");
  folder.Write("x.bin", bin + "zz");
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument,
                "x.bin: 14 bytes, the index needs 12");
}

// Indexes with one damaged field each, and a part of the expected error. `idx` has sequences of 3,
// 2 and 1 ids.
std::vector<std::pair<std::string, std::string>> DamagedIndexes(const std::string& idx) {
  const int64_t offsets = kHeader + 4 * 3, documents = offsets + 8 * 3;
  return {
      {With<char>(idx, 3, 'x'), "byte 3 is 0x78, expected 0x44"},
      {With<char>(idx, 8, 1), "byte 8 is 0x01, expected 0x00"},
      {With<int64_t>(idx, 9, 2), "version 2 at byte 9"},
      {With<uint8_t>(idx, 17, 0), "dtype code 0 at byte 17"},
      {With<uint8_t>(idx, 17, 2), "sequence 1 starts at byte 6 of the .bin (byte 54), expected 3:"},
      {With<uint8_t>(idx, 17, 5), "sequence 1 starts at byte 6 of the .bin (byte 54), expected 24"},
      {With<uint8_t>(idx, 17, 6), "dtype code 6 (float64) at byte 17, expected an integer type"},
      {With<uint8_t>(idx, 17, 7), "dtype code 7 (float32) at byte 17, expected an integer type"},
      {With<uint8_t>(idx, 17, 9), "dtype code 9 at byte 17, expected an integer type"},
      {With<int64_t>(idx, 18, 4), "4 sequences (byte 18)"},
      {With<int64_t>(idx, 18, -1), "18446744073709551615 sequences (byte 18)"},
      {With<int64_t>(idx, 26, 3), "3 document entries (byte 26)"},
      {With<int64_t>(idx, 26, int64_t{1} << 61), "2305843009213693952 document entries"},
      {With<int32_t>(idx, kHeader + 4, -2), "sequence 1 has -2 tokens at byte 38"},
      {With<int64_t>(idx, offsets, 2), "sequence 0 starts at byte 2 of the .bin (byte 46)"},
      {With<int64_t>(idx, offsets + 8, 4), "sequence 1 starts at byte 4"},
      {With<int64_t>(idx, offsets + 16, 12), "sequence 2 starts at byte 12"},
      {With<int64_t>(idx, documents, 1), "document entry 0 is 1 at byte 70, expected 0"},
      {With<int64_t>(idx, documents + 8, 3), "document entry 2 is 2 at byte 86, expected 3"},
      {With<int64_t>(idx, documents + 16, 4), "document entry 2 is 4 at byte 86, expected 1 to 3"},
      {With<int64_t>(idx, documents + 24, 2),
       "the last document entry is 2 at byte 94, expected 3"}};
}

TEST(IndexedDataset, EachDamagedFieldIsNamedWithItsByte) {
  const TempFolder folder;
  Write(folder.Path("x"), 257, {{1, 2, 3}, {4, 5}, {6}});
  const std::string idx = folder.ReadAll("x.idx");
  for (const auto& [damaged, message] : DamagedIndexes(idx)) {
    folder.Write("x.idx", damaged);
    EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument, message);
  }
}

// The index of a writer that did not end its last documents: it has only `entries` document
// entries.
std::string WithoutLastEntries(const std::string& idx, int64_t sequences, int64_t entries) {
  return With(idx, 26, entries).substr(0, kHeader + 12 * sequences + 8 * entries);
}

TEST(IndexedDataset, ADocumentThatWasNeverEndedIsNamed) {
  const TempFolder folder;
  Write(folder.Path("x"), 257, {{1, 2, 3}, {4, 5}, {6}});
  const std::string idx = folder.ReadAll("x.idx");
  folder.Write("x.idx", WithoutLastEntries(idx, 3, 3));
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument,
                "x.idx: the last document entry is 2 at byte 86, expected 3, the number of "
                "sequences: the last document was never ended; call end_document() before "
                "finalize() where it is written, or prepare the data again");
  folder.Write("x.idx", WithoutLastEntries(idx, 3, 1));
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument,
                "the last document entry is 0 at byte 70, expected 3, the number of sequences");
}

TEST(IndexedDataset, AnEmptyIndexWithoutDocumentEntriesIsRefused) {
  const TempFolder folder;
  Write(folder.Path("x"), 257, {});
  folder.Write("x.idx", With<int64_t>(folder.ReadAll("x.idx"), 26, 0).substr(0, kHeader));
  EXPECT_STATUS(IndexedDataset::Open(folder.Path("x")), kInvalidArgument, "byte 26");
}

TEST(IndexedDatasetWriter, AnUnfinishedWriterLeavesNoFile) {
  const TempFolder folder;
  {
    auto writer = IndexedDatasetWriter::Create(folder.Path("x"), 257);
    ASSERT_OK(writer);
    ASSERT_OK((*writer)->AddDocument({1, 2, 3}));
  }
  EXPECT_THAT(folder.Names(), IsEmpty());
}

TEST(IndexedDatasetWriter, ADocumentCanBeWrittenInParts) {
  const TempFolder folder;
  auto writer = IndexedDatasetWriter::Create(folder.Path("x"), 257).value();
  for (const auto& part : Documents{{1, 2}, {}, {3}}) ASSERT_OK(writer->AddTokens(part));
  ASSERT_OK(writer->EndDocument());
  ASSERT_OK(writer->EndDocument());
  ASSERT_OK(writer->AddDocument({4}));
  ASSERT_OK(writer->Finish());
  Write(folder.Path("y"), 257, {{1, 2, 3}, {}, {4}});
  EXPECT_EQ(folder.ReadAll("x.idx"), folder.ReadAll("y.idx"));
  EXPECT_EQ(folder.ReadAll("x.bin"), folder.ReadAll("y.bin"));
}

// Dropped before and after they reach the disk.
TEST(IndexedDatasetWriter, TokensOfADocumentCanBeDropped) {
  const TempFolder folder;
  const std::vector<int32_t> many(3'000'000, 7);
  for (const int64_t vocab : {257, 100'000}) {
    auto writer = IndexedDatasetWriter::Create(folder.Path("x"), vocab).value();
    for (const auto& kept : Documents{{1}, many, {2, 3}}) {
      ASSERT_OK(writer->AddDocument(kept));
      for (const auto& dropped : Documents{{9}, many, {}, {9, 9}}) {
        ASSERT_OK(writer->AddTokens(dropped));
        // The first one is dropped together with the second.
        ASSERT_OK(dropped.size() == 1 ? absl::OkStatus() : writer->DropTokens());
      }
    }
    EXPECT_EQ(writer->num_tokens(), 3'000'003);
    ASSERT_OK(writer->Finish());
    Write(folder.Path("y"), vocab, {{1}, many, {2, 3}});
    EXPECT_TRUE(folder.ReadAll("x.idx") == folder.ReadAll("y.idx"));
    EXPECT_TRUE(folder.ReadAll("x.bin") == folder.ReadAll("y.bin"));
  }
}

TEST(IndexedDatasetWriter, AKilledWriterLeavesOnlyAPartialFile) {
  const TempFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    auto writer = IndexedDatasetWriter::Create(folder.Path("x"), 257);
    const std::vector<int32_t> tokens(3'000'000, 5);
    if (!(*writer)->AddDocument(tokens).ok()) _exit(1);
    kill(getpid(), SIGKILL);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFSIGNALED(state));
  EXPECT_THAT(folder.Names(), ElementsAre("x.bin.partial"));
  Write(folder.Path("x"), 257, {{1}});
  EXPECT_THAT(folder.Names(), ElementsAre("x.bin", "x.idx"));
  EXPECT_EQ(folder.ReadAll("x.bin"), std::string("\1\0", 2));
}

TEST(IndexedDatasetWriter, ReplacesAnOlderPairAsAWhole) {
  const TempFolder folder;
  Write(folder.Path("x"), 257, {{1, 2, 3}, {4}});
  Write(folder.Path("x"), 257, {{9}});
  const auto dataset = IndexedDataset::Open(folder.Path("x"));
  ASSERT_OK(dataset);
  EXPECT_THAT(ReadAll(**dataset), ElementsAre(9));
}

TEST(IndexedDatasetWriter, ASecondWriterOfAPrefixIsRefused) {
  const TempFolder folder;
  const auto first = IndexedDatasetWriter::Create(folder.Path("x"), 257);
  ASSERT_OK(first);
  EXPECT_STATUS(IndexedDatasetWriter::Create(folder.Path("x"), 257), kUnavailable,
                "x.bin.partial: another process is writing it");
}

TEST(IndexedDatasetWriter, AMissingFolderIsNamed) {
  const TempFolder folder;
  EXPECT_STATUS(IndexedDatasetWriter::Create(folder.Path("no/x"), 257), kNotFound,
                "no/x.bin.partial: cannot create");
}

TEST(IndexedDatasetWriterDeathTest, AnIdBeyondTheVocabularyIsACallersError) {
  const TempFolder folder;
  auto writer = IndexedDatasetWriter::Create(folder.Path("x"), 257);
  ASSERT_OK(writer);
  EXPECT_DEATH((void)(*writer)->AddDocument({1, 257}), "257");
  EXPECT_DEATH((void)(*writer)->AddDocument({-1}), "257");
}

}  // namespace
}  // namespace unipool
