#include "runtime/place.h"

#include "absl/strings/str_cat.h"

namespace unipool {

std::string Place::Snapshot::InWords() const {
  std::string words = what;
  if (layer != kNoLayer) absl::StrAppend(&words, " of layer ", layer);
  return step == 0 ? words : absl::StrCat("step ", step, ", ", words);
}

Place::Work::Work(Place& place) : place_(place) {
  place_.at_work_.store(true, std::memory_order_relaxed);
  place_.changes_.fetch_add(1, std::memory_order_relaxed);
}

Place::Work::~Work() { place_.at_work_.store(false, std::memory_order_relaxed); }

void Place::SetStep(int64_t step) {
  step_.store(step, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_relaxed);
}

void Place::Set(const char* what, int layer) {
  what_.store(what, std::memory_order_relaxed);
  layer_.store(layer, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_relaxed);
}

Place::Snapshot Place::Read() const {
  return {.step = step_.load(std::memory_order_relaxed),
          .what = what_.load(std::memory_order_relaxed),
          .layer = layer_.load(std::memory_order_relaxed)};
}

}  // namespace unipool
