// Finds by trial in how many chunks the rows of a run travel best (parallel.exchange_chunks = 0).
// That depends on network, load and sizes; results are the same bits with any number, so the first
// steps of a run may try some in turn.
#pragma once

#include <string>
#include <vector>

namespace unipool {

class ChunkTrial {
 public:
  // `most` chunks can be made. A `setting` other than 0 is taken as it is.
  ChunkTrial(int setting, int most);

  // Of the next step.
  int chunks() const { return chunks_; }
  bool settled() const { return settled_; }
  // The time of a step of chunks(), on the slowest rank: every rank gives the same number.
  void Note(double seconds);
  // Once settled by trial: "4 (0.213 s a step; 1: 0.254 s, 2: 0.231 s, 8: 0.219 s)"; else "4".
  std::string ToString() const;

 private:
  struct Candidate {
    int chunks;
    double best_seconds;
  };

  void Settle();

  int chunks_ = 1;
  bool settled_ = true;
  int noted_ = 0;
  std::vector<Candidate> candidates_;  // empty without a trial
};

}  // namespace unipool
