// Lets all ranks stop together when one of them has to.
#pragma once

#include <functional>
#include <utility>

#include "launch/world/world.h"
#include "runtime/stream.h"

namespace unipool {

class StopAgreement {
 public:
  // `wants_stop` is called on this rank before each agreement: once per step and per batch of an
  // evaluation.
  void set_wants_stop(std::function<bool()> wants_stop) { wants_stop_ = std::move(wants_stop); }

  // True once the ranks have agreed to stop; the same on all ranks.
  bool stopped() const { return stopped_; }

  // For an agreement as part of another reduction: the caller sums Vote() over all ranks and
  // passes the sum to Count.
  double Vote() const { return wants_stop_ != nullptr && wants_stop_() ? 1.0 : 0.0; }
  void Count(double votes) { stopped_ = stopped_ || votes > 0; }
  // An agreement of its own. Collective. Returns stopped().
  bool Agree(const World& world, Stream& stream);

 private:
  std::function<bool()> wants_stop_;
  bool stopped_ = false;
};

}  // namespace unipool
