// A reusable list of CUDA events that mark points in the work of streams of one GPU, for time
// measurement. Events are created on first use.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "runtime/device.h"
#include "runtime/stream.h"

namespace unipool {

class EventList {
 public:
  explicit EventList(Device device) : device_(device) {}
  ~EventList();
  EventList(const EventList&) = delete;
  EventList& operator=(const EventList&) = delete;

  // Records the next event after all work enqueued on the stream so far. Returns its index; indices
  // start at 0.
  int64_t Record(Stream& stream);
  // Seconds between two events of the same stream; blocks until the GPU has passed `end`.
  double Seconds(int64_t begin, int64_t end);
  // Makes index 0 the next one to be recorded.
  void Clear() { size_ = 0; }
  int64_t size() const { return size_; }

 private:
  const Device device_;
  std::vector<cudaEvent_t> events_;
  int64_t size_ = 0;
};

}  // namespace unipool
