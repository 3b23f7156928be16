// Points in the work of streams of one GPU, for measuring: CUDA events, made when first needed and
// then used again.
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

  // Puts a point behind all work of the stream so far; points count from 0.
  int64_t Record(Stream& stream);
  // From one point to a later one of the same stream; waits until the GPU has passed it.
  double Seconds(int64_t begin, int64_t end);
  // The next point is 0 again.
  void Clear() { size_ = 0; }
  int64_t size() const { return size_; }

 private:
  const Device device_;
  std::vector<cudaEvent_t> events_;
  int64_t size_ = 0;
};

}  // namespace unipool
