#include "runtime/progress.h"

#include "absl/strings/str_cat.h"

namespace unipool {

std::string Progress::Snapshot::ToString() const {
  std::string text = what;
  if (layer != kNoLayer) absl::StrAppend(&text, " of layer ", layer);
  return step == 0 ? text : absl::StrCat("step ", step, ", ", text);
}

Progress::Work::Work(Progress& progress) : progress_(progress) {
  progress_.at_work_.store(true, std::memory_order_relaxed);
  progress_.changes_.fetch_add(1, std::memory_order_relaxed);
}

Progress::Work::~Work() { progress_.at_work_.store(false, std::memory_order_relaxed); }

void Progress::SetStep(int64_t step) {
  step_.store(step, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_relaxed);
}

void Progress::Set(const char* what, int layer) {
  what_.store(what, std::memory_order_relaxed);
  layer_.store(layer, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_relaxed);
}

Progress::Snapshot Progress::Read() const {
  return {.step = step_.load(std::memory_order_relaxed),
          .what = what_.load(std::memory_order_relaxed),
          .layer = layer_.load(std::memory_order_relaxed)};
}

}  // namespace unipool
