#include "tests/comm/through_gpu.h"

#include <utility>

#include "runtime/buffer.h"
#include "runtime/build_config.h"
#include "runtime/copy.h"
#include "runtime/gpu.h"

namespace unipool::testing {
namespace {

class ThroughGpuCommunicator : public Communicator {
 public:
  ThroughGpuCommunicator(std::unique_ptr<Communicator> inner, Device gpu)
      : inner_(std::move(inner)),
        gpu_(gpu),
        compute_(Stream::Create(gpu)),
        side_(Stream::Create(gpu, Stream::Kind::kSide)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  DeviceType device_type() const override { return DeviceType::kCpu; }
  void Barrier() override { inner_->Barrier(); }
  std::unique_ptr<Communicator> Split(int color, const std::string& name) override {
    return ThroughGpu(inner_->Split(color, name), gpu_);
  }

  void AllReduce(Tensor x, ReduceOp op, Stream& stream) override {
    const Call call(*this, stream, x);
    inner_->AllReduce(call.on_gpu(x), op, call.stream);
    call.Read(x);
  }
  void ReduceScatter(Tensor input, Tensor output, Stream& stream) override {
    const Call call(*this, stream, input, output);
    inner_->ReduceScatter(call.on_gpu(input), call.on_gpu(output), call.stream);
    call.Read(output);
  }
  void AllGather(Tensor input, Tensor output, Stream& stream) override {
    const Call call(*this, stream, output, input);
    inner_->AllGather(call.on_gpu(input), call.on_gpu(output), call.stream);
    call.Read(output);
  }
  void AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                 absl::Span<const int64_t> recv_rows, Stream& stream) override {
    const Call call(*this, stream, input, output);
    inner_->AllToAllV(call.on_gpu(input), send_rows, call.on_gpu(output), recv_rows, call.stream);
    call.Read(output);
  }
  void Broadcast(Tensor x, int root, Stream& stream) override {
    const Call call(*this, stream, x);
    inner_->Broadcast(call.on_gpu(x), root, call.stream);
    call.Read(x);
  }

 private:
  // The tensors of one call on the GPU: two, or one that contains the other.
  class Call {
   public:
    Call(const ThroughGpuCommunicator& comm, Stream& as, const Tensor& first,
         const Tensor& second = {})
        : stream(as.Record().stream == nullptr ? *comm.compute_ : *comm.side_), gpu_(comm.gpu_) {
      CopyToDevice(first, 0);
      if (!IsPartOfFirst(second)) CopyToDevice(second, 1);
    }

    Tensor on_gpu(Tensor tensor) const {
      const int i = IsPartOfFirst(tensor) ? 0 : 1;
      const auto offset =
          static_cast<const char*>(tensor.data) - static_cast<const char*>(host_[i].data);
      tensor.data = static_cast<char*>(memory_[i].data()) + offset;
      tensor.device = gpu_;
      return tensor;
    }
    // Copies the result back to the caller's tensor on the host.
    void Read(const Tensor& tensor) const {
      CopyTensor(on_gpu(tensor), tensor, stream);
      stream.Synchronize();
    }

    Stream& stream;

   private:
    bool IsPartOfFirst(const Tensor& tensor) const {
      const auto* begin = static_cast<const char*>(host_[0].data);
      const auto* data = static_cast<const char*>(tensor.data);
      return data == begin || (data > begin && data < begin + host_[0].bytes());
    }
    void CopyToDevice(const Tensor& tensor, int i) {
      host_[i] = tensor;
      memory_[i] = Buffer::Allocate(gpu_, tensor.bytes()).value();
      Tensor copy = tensor;
      copy.data = memory_[i].data();
      copy.device = gpu_;
      CopyTensor(tensor, copy, stream);
    }

    const Device gpu_;
    Tensor host_[2];
    Buffer memory_[2];
  };

  const std::unique_ptr<Communicator> inner_;
  const Device gpu_;
  const std::unique_ptr<Stream> compute_, side_;
};

}  // namespace

std::unique_ptr<Communicator> ThroughGpu(std::unique_ptr<Communicator> inner, Device gpu) {
  return std::make_unique<ThroughGpuCommunicator>(std::move(inner), gpu);
}

Device GpuOf(int rank) {
  if constexpr (kWithCuda) return {DeviceType::kCuda, rank % NumGpus()};
  return {};
}

}  // namespace unipool::testing
