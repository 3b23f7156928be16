// Warns when routers give many tokens no expert.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

namespace unipool {

// The *unrouted share* of a step is its share of (token, layer) pairs without a positive score,
// which pass the layer without an expert (model/method.md).
class UnroutedWarning {
 public:
  // Adds a trained step. Returns one line, to be printed once, if the mean of the last 5 steps is
  // above 5 % and, after an earlier line, 20 points above the share of that line; else "".
  std::string Add(double unrouted_share);
  // One line for the end of the run if the mean of the last 10 steps is above 5 %; else "".
  std::string Summary() const;

 private:
  double MeanOfLast(size_t steps) const;

  std::deque<double> shares_;  // of the last steps, the newest last
  double warned_of_ = 0;       // share of the newest line
};

}  // namespace unipool
