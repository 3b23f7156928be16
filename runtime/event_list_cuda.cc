#include "runtime/event_list_cuda.h"

#include "runtime/check_cuda.h"
#include "runtime/stream_cuda.h"

namespace unipool {

EventList::~EventList() {
  UseDevice(device_);
  for (cudaEvent_t event : events_) CUDA_CHECK(cudaEventDestroy(event));
}

int64_t EventList::Record(Stream& stream) {
  cudaStream_t const handle = CudaStream(stream);
  if (size_ == static_cast<int64_t>(events_.size())) {
    CUDA_CHECK(cudaEventCreateWithFlags(&events_.emplace_back(), cudaEventDefault));
  }
  CUDA_CHECK(cudaEventRecord(events_[size_], handle));
  return size_++;
}

double EventList::Seconds(int64_t begin, int64_t end) {
  UseDevice(device_);
  CUDA_CHECK(cudaEventSynchronize(events_[end]));
  float milliseconds = 0;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, events_[begin], events_[end]));
  return milliseconds / 1e3;
}

}  // namespace unipool
