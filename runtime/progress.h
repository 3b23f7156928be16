// Where a rank is in its work: "step 12, forward of layer 3". Written by the thread that does the
// work, for nearly nothing; read by whoever has to tell why nothing moves.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace unipool {

class Progress {
 public:
  static constexpr int kNoLayer = -1;

  struct Snapshot {
    int64_t step = 0;               // counted from 1; 0 before the first
    const char* what = "start-up";  // a string literal
    int layer = kNoLayer;

    std::string ToString() const;
  };

  // The time of a step or a validation: work that has to move on, whatever it is at. Scopes do not
  // overlap.
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
  // `what` is a string literal.
  void Set(const char* what, int layer = kNoLayer);
  Snapshot Read() const;
  bool is_at_work() const { return at_work_.load(std::memory_order_relaxed); }
  // How often it was set: what does not grow stands still.
  uint64_t changes() const { return changes_; }

 private:
  std::atomic<int64_t> step_{0};
  std::atomic<const char*> what_{Snapshot{}.what};
  std::atomic<int> layer_{kNoLayer};
  std::atomic<bool> at_work_{false};
  std::atomic<uint64_t> changes_{0};
};

}  // namespace unipool
