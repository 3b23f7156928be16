#include "comm/mixed_device_communicator.h"

#include <glog/logging.h>

#include <utility>

#include "comm/growing_buffer.h"
#include "comm/host_tensor_calls.h"
#include "runtime/copy.h"

namespace unipool {
namespace {

class MixedDeviceCommunicator : public Communicator {
 public:
  MixedDeviceCommunicator(std::unique_ptr<Communicator> on_gpu, std::unique_ptr<Communicator> host,
                          Device gpu)
      : on_gpu_(std::move(on_gpu)),
        host_(std::move(host)),
        host_calls_(gpu),
        gpu_stream_(Stream::Create(gpu, Stream::Kind::kSide)),
        input_buffer_(GrowingBuffer::Kind::kOnGpu, gpu),
        output_buffer_(GrowingBuffer::Kind::kOnGpu, gpu) {
    if (host_ != nullptr) CHECK(host_->rank() == rank() && host_->size() == size());
  }

  int rank() const override { return on_gpu_->rank(); }
  int size() const override { return on_gpu_->size(); }
  DeviceType device_type() const override { return DeviceType::kCuda; }

  void AllReduce(Tensor x, ReduceOp op, Stream& stream) override {
    if (!host_calls_.IsOnHost(x)) return on_gpu_->AllReduce(x, op, stream);
    if (host_ != nullptr) return host_->AllReduce(x, op, host_calls_.StreamAfter(stream));
    const Tensor copy = CopyToGpu(x, input_buffer_, stream);
    on_gpu_->AllReduce(copy, op, *gpu_stream_);
    CopyToHost(copy, x);
  }
  void ReduceScatter(Tensor input, Tensor output, Stream& stream) override {
    if (!host_calls_.IsOnHost(input)) return on_gpu_->ReduceScatter(input, output, stream);
    if (host_ != nullptr)
      return host_->ReduceScatter(input, output, host_calls_.StreamAfter(stream));
    const Tensor mine = output_buffer_.Like(output);
    on_gpu_->ReduceScatter(CopyToGpu(input, input_buffer_, stream), mine, *gpu_stream_);
    CopyToHost(mine, output);
  }
  void AllGather(Tensor input, Tensor output, Stream& stream) override {
    if (!host_calls_.IsOnHost(input)) return on_gpu_->AllGather(input, output, stream);
    if (host_ != nullptr) return host_->AllGather(input, output, host_calls_.StreamAfter(stream));
    const Tensor all = output_buffer_.Like(output);
    on_gpu_->AllGather(CopyToGpu(input, input_buffer_, stream), all, *gpu_stream_);
    CopyToHost(all, output);
  }
  void AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                 absl::Span<const int64_t> recv_rows, Stream& stream) override {
    if (!host_calls_.IsOnHost(input)) {
      return on_gpu_->AllToAllV(input, send_rows, output, recv_rows, stream);
    }
    if (host_ != nullptr) {
      return host_->AllToAllV(input, send_rows, output, recv_rows, host_calls_.StreamAfter(stream));
    }
    // `output` is copied too, so that the rows after the received ones keep their values.
    const Tensor received = CopyToGpu(output, output_buffer_, stream);
    on_gpu_->AllToAllV(CopyToGpu(input, input_buffer_, stream), send_rows, received, recv_rows,
                       *gpu_stream_);
    CopyToHost(received, output);
  }
  void Broadcast(Tensor x, int root, Stream& stream) override {
    if (!host_calls_.IsOnHost(x)) return on_gpu_->Broadcast(x, root, stream);
    if (host_ != nullptr) return host_->Broadcast(x, root, host_calls_.StreamAfter(stream));
    const Tensor copy = CopyToGpu(x, input_buffer_, stream);
    on_gpu_->Broadcast(copy, root, *gpu_stream_);
    CopyToHost(copy, x);
  }
  void Barrier() override { host_ != nullptr ? host_->Barrier() : on_gpu_->Barrier(); }
  std::unique_ptr<Communicator> Split(int color, const std::string& name) override {
    std::unique_ptr<Communicator> host = host_ != nullptr ? host_->Split(color, name) : nullptr;
    return CreateMixedDeviceCommunicator(on_gpu_->Split(color, name), std::move(host),
                                         host_calls_.gpu());
  }

 private:
  // Returns a copy in `buffer`, made after the work of `stream` and ordered on gpu_stream_.
  Tensor CopyToGpu(const Tensor& tensor, GrowingBuffer& buffer, Stream& stream) const {
    stream.Synchronize();
    const Tensor copy = buffer.Like(tensor);
    CopyTensor(tensor, copy, *gpu_stream_);
    return copy;
  }
  void CopyToHost(const Tensor& copy, const Tensor& tensor) const {
    CopyTensor(copy, tensor, *gpu_stream_);
    gpu_stream_->Synchronize();
  }

  const std::unique_ptr<Communicator> on_gpu_, host_;
  const HostTensorCalls host_calls_;
  const std::unique_ptr<Stream> gpu_stream_;
  GrowingBuffer input_buffer_, output_buffer_;
};

}  // namespace

std::unique_ptr<Communicator> CreateMixedDeviceCommunicator(std::unique_ptr<Communicator> on_gpu,
                                                            std::unique_ptr<Communicator> host,
                                                            Device gpu) {
  return std::make_unique<MixedDeviceCommunicator>(std::move(on_gpu), std::move(host), gpu);
}

}  // namespace unipool
