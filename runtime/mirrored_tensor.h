// A few numbers that a device's ops and the host both work on: an array on the device and its twin
// in memory of the host that the device copies from and to without waiting. On the CPU the two are
// one and nothing is copied.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

class MirroredTensor {
 public:
  // Zeros, `size` of them. RESOURCE_EXHAUSTED when the system refuses.
  static absl::StatusOr<MirroredTensor> Create(Device device, DType dtype, int64_t size);

  MirroredTensor() = default;  // holds nothing

  // [size]; views that stay valid as long as this, also where it is moved.
  Tensor on_device() const { return on_device_; }
  // Waits until the last Upload has passed, so the host may write.
  Tensor on_host() const;
  int64_t size() const { return on_device_.numel(); }

  // Enqueues the host's values for the device.
  void Upload(Stream& stream);
  // Enqueues the first `count` values of the device for the host, which may read them once the
  // stream has come past it.
  void Download(int64_t count, Stream& stream);
  // Downloads all of them and waits.
  void DownloadNow(Stream& stream);

 private:
  Buffer device_buffer_;
  Buffer host_buffer_;
  Tensor on_device_;
  Tensor on_host_;
  Event uploaded_;
};

// Blocks the calling thread until all work enqueued so far on `stream` is done, by an event: other
// streams of the device go on.
void WaitForHost(Stream& stream);

}  // namespace unipool
