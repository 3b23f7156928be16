#include "launch/train/chunk_trial.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace unipool {
namespace {

// Adds steps that take seconds(chunks, step) until the trial settles; returns their chunks.
std::vector<int> StepsOf(ChunkTrial& trial, const std::function<double(int, int)>& seconds) {
  std::vector<int> tried;
  while (!trial.settled() && tried.size() < 1000) {
    tried.push_back(trial.chunks());
    trial.AddStep(seconds(trial.chunks(), static_cast<int>(tried.size())));
  }
  return tried;
}

TEST(ChunkTrial, UsesASettingWithoutATrial) {
  ChunkTrial trial(3, 8);
  EXPECT_TRUE(trial.settled());
  EXPECT_EQ(trial.chunks(), 3);
  trial.AddStep(1.0);
  EXPECT_EQ(trial.chunks(), 3);
  EXPECT_EQ(trial.ToString(), "3");
}

TEST(ChunkTrial, HasNothingToTryWithOneChunk) {
  const ChunkTrial trial(0, 1);
  EXPECT_TRUE(trial.settled());
  EXPECT_EQ(trial.chunks(), 1);
}

TEST(ChunkTrial, TriesInTurnsAndKeepsTheFastest) {
  ChunkTrial trial(0, 48);
  const auto seconds = [](int chunks, int) { return chunks == 4 ? 0.5 : 0.5 + 0.125 * chunks; };
  EXPECT_EQ(StepsOf(trial, seconds), (std::vector<int>{1, 1, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8}));
  EXPECT_EQ(trial.chunks(), 4);
  EXPECT_EQ(trial.ToString(), "4 (0.5 s per step; tried 1: 0.625 s, 2: 0.75 s, 8: 1.5 s)");
}

// A single slow step and slow first steps are noise.
TEST(ChunkTrial, ComparesTheBestStepOfEach) {
  ChunkTrial trial(0, 2);
  EXPECT_EQ(StepsOf(trial, [](int chunks,
                              int step) { return step <= 2 || step == 4 ? 9.0 : 1.0 / chunks; })
                .size(),
            8u);
  EXPECT_EQ(trial.chunks(), 2);
}

TEST(ChunkTrial, PrefersFewerIfMoreAreHardlyFaster) {
  ChunkTrial trial(0, 8);
  StepsOf(trial, [](int chunks, int) { return 1.0 - 0.001 * chunks; });
  EXPECT_EQ(trial.chunks(), 1);
}

TEST(ChunkTrial, TriesAtMostTheMaximum) {
  ChunkTrial trial(0, 3);
  for (const int chunks : StepsOf(trial, [](int, int) { return 1.0; })) EXPECT_LE(chunks, 2);
}

}  // namespace
}  // namespace unipool
