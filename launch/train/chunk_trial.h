// Finds by trial into how many chunks to split the all-to-all of expert rows
// (parallel.exchange_chunks = 0). The best number depends on the network, the load and the sizes.
// Every number gives the same bits, so the first steps of a run try several in turn.
#pragma once

#include <string>
#include <vector>

namespace unipool {

class ChunkTrial {
 public:
  // Tries up to `max_chunks` chunks, or none if `setting` is not 0: then that number is used.
  ChunkTrial(int setting, int max_chunks);

  // The number of chunks for the next step.
  int chunks() const { return chunks_; }
  // True if chunks() no longer changes.
  bool settled() const { return settled_; }
  // Adds the time of a step with chunks(), on the slowest rank: all ranks must pass the same
  // number.
  void AddStep(double seconds);
  // After a trial "4 (0.213 s per step; tried 1: 0.254 s, 2: 0.231 s, 8: 0.219 s)", else "4".
  std::string ToString() const;

 private:
  struct Candidate {
    int chunks;
    double best_seconds;
  };

  void Settle();

  int chunks_ = 1;
  bool settled_ = true;
  int steps_ = 0;
  std::vector<Candidate> candidates_;  // empty without a trial
};

}  // namespace unipool
