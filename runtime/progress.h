// Progress of a rank: the step and the part of it that runs, as in "step 12, forward of layer 3".
// The thread that does the work writes it with a few relaxed atomic stores and allocates nothing;
// any thread may read it, as the watchdog does.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace unipool {

class Progress {
 public:
  static constexpr int kNoLayer = -1;

  struct Snapshot {
    int64_t step = 0;               // counted from 1; 0 before the first step
    const char* what = "start-up";  // a string literal
    int layer = kNoLayer;

    // "step 12, forward of layer 3"; without the step before the first one, without the layer if
    // `layer` is kNoLayer.
    std::string ToString() const;
  };

  // Marks the scope of a step or a validation, during which the progress must change before the
  // watchdog's deadline. Scopes do not overlap.
  class Work {
   public:
    explicit Work(Progress& progress);
    ~Work();
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;

   private:
    Progress& progress_;
  };

  void SetStep(int64_t step);
  // `what` is a string literal: only the pointer is kept.
  void Set(const char* what, int layer = kNoLayer);
  // The fields are read one after the other, so a concurrent Set may show in some of them only.
  Snapshot Read() const;
  // True inside a Work scope.
  bool is_at_work() const { return at_work_.load(std::memory_order_relaxed); }
  // Number of updates; an unchanged value means no progress.
  uint64_t changes() const { return changes_; }

 private:
  std::atomic<int64_t> step_{0};
  std::atomic<const char*> what_{Snapshot{}.what};
  std::atomic<int> layer_{kNoLayer};
  std::atomic<bool> at_work_{false};
  std::atomic<uint64_t> changes_{0};
};

}  // namespace unipool
