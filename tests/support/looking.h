// Fixture for tests that analyze small models with untrained weights.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "launch/analysis/evaluation_text.h"
#include "launch/analysis/inference_model.h"
#include "tests/support/on_ranks.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool::testing {

class LookingTest : public ::testing::Test {
 protected:
  LookingTest() : prefix_(folder_.Path("text")) { WriteTinyDataset(prefix_); }

  config::Run Run(Variant variant) const { return TinyRun(variant, prefix_); }

  // The first 8 sequences of the validation set, unless `part` selects others.
  static std::unique_ptr<EvaluationText> Text(const config::Run& run,
                                              const TextPart& part = {.sequences = 8}) {
    return EvaluationText::Open(run, part).value();
  }

  // Runs `look` on `ranks` ranks, each with the initial weights of the run, and returns the result
  // of rank 0.
  template <typename Result, typename Function>
  static Result Look(const config::Run& run, int ranks, const Function& look,
                     int64_t batch_tokens = 40) {
    Result result{};
    OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) {
      const auto world = World::Create(run, std::move(comm)).value();
      const auto model = InferenceModel::Create(run, batch_tokens, *world).value();
      Result mine = look(*model);
      if (world->is_first()) result = std::move(mine);
    });
    return result;
  }

  TempFolder folder_;
  std::string prefix_;
};

}  // namespace unipool::testing
