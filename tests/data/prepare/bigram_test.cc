#include "data/prepare/bigram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using testing::TempFolder;

std::unique_ptr<IndexedDataset> Dataset(const TempFolder& folder,
                                        const std::vector<std::vector<int32_t>>& documents) {
  auto writer = *IndexedDatasetWriter::Create(folder.Path("x"), 257);
  for (const auto& tokens : documents) EXPECT_OK(writer->AddDocument(tokens));
  EXPECT_OK(writer->Finish());
  return *IndexedDataset::Open(folder.Path("x"));
}

TEST(BigramLoss, MatchesTheCountsByHand) {
  const TempFolder folder;
  // Training pairs: 0 1, 1 0, 0 1, 1 2. Probabilities of the validation pairs with smoothing: 2 0
  // is 1 / 3, 0 1 is (2 + 1) / (2 + 3), 1 1 is (0 + 1) / (2 + 3), 1 2 is (1 + 1) / (2 + 3).
  const auto dataset = Dataset(folder, {{0, 1, 0}, {1, 2}, {2, 0, 1, 1, 2}});
  const auto report = BigramLoss(*dataset, "2,1,0", 3);
  ASSERT_OK(report);
  EXPECT_EQ(report->train_tokens, 5);
  EXPECT_EQ(report->validation_tokens, 4);
  const double expected =
      -(std::log(1 / 3.) + std::log(3 / 5.) + std::log(1 / 5.) + std::log(2 / 5.));
  EXPECT_NEAR(report->loss, expected / 4, 1e-12);
}

TEST(BigramLoss, CountsPairsAcrossBlocksOfReading) {
  const TempFolder folder;
  // 0 1 0 1 ... over more than one block: the next token is certain up to smoothing.
  std::vector<int32_t> tokens((1 << 20) + 11);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i % 2);
  const auto dataset = Dataset(folder, {tokens, tokens});
  const auto report = BigramLoss(*dataset, "1,1,0", 2);
  ASSERT_OK(report);
  const double pairs = (1 << 19) + 5;
  EXPECT_NEAR(report->loss, -std::log((pairs + 1) / (pairs + 2)), 1e-12);
}

TEST(BigramLoss, NamesInvalidInput) {
  const TempFolder folder;
  const auto dataset = Dataset(folder, {{0, 1, 0}, {1, 2}, {2, 0, 1}});
  EXPECT_STATUS(BigramLoss(*dataset, "1,0,0", 3), kInvalidArgument, "validation part");
  EXPECT_STATUS(BigramLoss(*dataset, "0,1,0", 3), kInvalidArgument, "training part");
  EXPECT_STATUS(BigramLoss(*dataset, "x", 3), kInvalidArgument, "split \"x\"");
  EXPECT_STATUS(BigramLoss(*dataset, "2,1,0", 2), kInvalidArgument, "token 4 has id 2");
  EXPECT_STATUS(BigramLoss(*dataset, "2,1,0", 1 << 20), kInvalidArgument, "vocabulary of 1048576");
}

}  // namespace
}  // namespace unipool
