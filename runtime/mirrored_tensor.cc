#include "runtime/mirrored_tensor.h"

#include <utility>

#include "runtime/copy.h"
#include "runtime/status.h"

namespace unipool {
namespace {

void WaitFor(Event event) {
  if (event.stream != nullptr) event.stream->BlockUntil(event.sequence);
}

}  // namespace

absl::StatusOr<MirroredTensor> MirroredTensor::Create(Device device, DType dtype, int64_t size) {
  const int64_t bytes = size * static_cast<int64_t>(SizeOf(dtype));
  MirroredTensor self;
  ASSIGN_OR_RETURN(self.device_buffer_, Buffer::Allocate(device, bytes));
  self.on_device_ = Tensor::View(self.device_buffer_.data(), dtype, {size}, device);
  self.on_host_ = self.on_device_;
  if (device.type == DeviceType::kCpu) return self;
  ASSIGN_OR_RETURN(self.host_buffer_, Buffer::AllocatePinned(device, bytes));
  self.on_host_ = Tensor::View(self.host_buffer_.data(), dtype, {size}, Device{});
  return self;
}

Tensor MirroredTensor::on_host() const {
  WaitFor(uploaded_);
  return on_host_;
}

void MirroredTensor::Upload(Stream& stream) {
  if (on_host_.data == on_device_.data) return;
  CopyTensor(on_host_, on_device_, stream);
  uploaded_ = stream.Record();
}

void MirroredTensor::Download(int64_t count, Stream& stream) {
  if (on_host_.data == on_device_.data) return;
  CopyTensor(on_device_.Rows(0, count), on_host_.Rows(0, count), stream);
}

void MirroredTensor::DownloadNow(Stream& stream) {
  Download(size(), stream);
  WaitForHost(stream);
}

void WaitForHost(Stream& stream) { WaitFor(stream.Record()); }

}  // namespace unipool
