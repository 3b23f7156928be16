// A small array that both a device's ops and the host use: device memory and a copy in pinned host
// memory, with asynchronous copies between them. On the CPU both are the same memory and nothing is
// copied.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

class MirroredTensor {
 public:
  // Allocates `size` zeros. Returns RESOURCE_EXHAUSTED if the system refuses.
  static absl::StatusOr<MirroredTensor> Create(Device device, DType dtype, int64_t size);

  MirroredTensor() = default;  // holds nothing

  // The [size] array on the device. The view stays valid for the lifetime of this object, even
  // after a move.
  Tensor on_device() const { return on_device_; }
  // The [size] array on the host. Blocks until the last Upload has been executed, so the caller may
  // write to it.
  Tensor on_host() const;
  int64_t size() const { return on_device_.numel(); }

  // Enqueues a copy of the host's values to the device.
  void Upload(Stream& stream);
  // Enqueues a copy of the first `count` device values to the host, which may read them after the
  // stream has executed the copy.
  void Download(int64_t count, Stream& stream);
  // Downloads all values and blocks until they have arrived.
  void DownloadNow(Stream& stream);

 private:
  Buffer device_buffer_;
  Buffer host_buffer_;
  Tensor on_device_;
  Tensor on_host_;
  Event uploaded_;
};

// Blocks the calling thread until all work enqueued on `stream` so far is done. It waits for an
// event, so other streams of the device continue.
void WaitForHost(Stream& stream);

}  // namespace unipool
