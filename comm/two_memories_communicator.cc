#include "comm/two_memories_communicator.h"

#include <glog/logging.h>

#include <utility>

#include "comm/both_memories.h"
#include "comm/grown_memory.h"
#include "runtime/copy.h"

namespace unipool {
namespace {

class TwoMemoriesCommunicator : public Communicator {
 public:
  TwoMemoriesCommunicator(std::unique_ptr<Communicator> on_gpu, std::unique_ptr<Communicator> host,
                          Device gpu)
      : on_gpu_(std::move(on_gpu)),
        host_(std::move(host)),
        memories_(gpu),
        gpu_stream_(Stream::Create(gpu, Stream::Kind::kSide)),
        first_(GrownMemory::Kind::kOnGpu, gpu),
        second_(GrownMemory::Kind::kOnGpu, gpu) {
    if (host_ != nullptr) CHECK(host_->rank() == rank() && host_->size() == size());
  }

  int rank() const override { return on_gpu_->rank(); }
  int size() const override { return on_gpu_->size(); }
  DeviceType device_type() const override { return DeviceType::kCuda; }

  void AllReduce(Tensor x, ReduceOp op, Stream& stream) override {
    if (!memories_.IsOnHost(x)) return on_gpu_->AllReduce(x, op, stream);
    if (host_ != nullptr) return host_->AllReduce(x, op, memories_.HostStream(stream));
    const Tensor copy = Bring(x, first_, stream);
    on_gpu_->AllReduce(copy, op, *gpu_stream_);
    Read(copy, x);
  }
  void ReduceScatter(Tensor input, Tensor output, Stream& stream) override {
    if (!memories_.IsOnHost(input)) return on_gpu_->ReduceScatter(input, output, stream);
    if (host_ != nullptr) return host_->ReduceScatter(input, output, memories_.HostStream(stream));
    const Tensor mine = second_.Like(output);
    on_gpu_->ReduceScatter(Bring(input, first_, stream), mine, *gpu_stream_);
    Read(mine, output);
  }
  void AllGather(Tensor input, Tensor output, Stream& stream) override {
    if (!memories_.IsOnHost(input)) return on_gpu_->AllGather(input, output, stream);
    if (host_ != nullptr) return host_->AllGather(input, output, memories_.HostStream(stream));
    const Tensor all = second_.Like(output);
    on_gpu_->AllGather(Bring(input, first_, stream), all, *gpu_stream_);
    Read(all, output);
  }
  void AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                 absl::Span<const int64_t> recv_rows, Stream& stream) override {
    if (!memories_.IsOnHost(input)) {
      return on_gpu_->AllToAllV(input, send_rows, output, recv_rows, stream);
    }
    if (host_ != nullptr) {
      return host_->AllToAllV(input, send_rows, output, recv_rows, memories_.HostStream(stream));
    }
    // Rows behind those received keep what they hold.
    const Tensor arrived = Bring(output, second_, stream);
    on_gpu_->AllToAllV(Bring(input, first_, stream), send_rows, arrived, recv_rows, *gpu_stream_);
    Read(arrived, output);
  }
  void Broadcast(Tensor x, int root, Stream& stream) override {
    if (!memories_.IsOnHost(x)) return on_gpu_->Broadcast(x, root, stream);
    if (host_ != nullptr) return host_->Broadcast(x, root, memories_.HostStream(stream));
    const Tensor copy = Bring(x, first_, stream);
    on_gpu_->Broadcast(copy, root, *gpu_stream_);
    Read(copy, x);
  }
  void Barrier() override { host_ != nullptr ? host_->Barrier() : on_gpu_->Barrier(); }
  std::unique_ptr<Communicator> Split(int color, const std::string& name) override {
    std::unique_ptr<Communicator> host = host_ != nullptr ? host_->Split(color, name) : nullptr;
    return CreateTwoMemoriesCommunicator(on_gpu_->Split(color, name), std::move(host),
                                         memories_.gpu());
  }

 private:
  // A copy on the GPU, after the work of `stream`.
  Tensor Bring(const Tensor& tensor, GrownMemory& memory, Stream& stream) const {
    stream.Synchronize();
    const Tensor copy = memory.Like(tensor);
    CopyTensor(tensor, copy, *gpu_stream_);
    return copy;
  }
  void Read(const Tensor& copy, const Tensor& tensor) const {
    CopyTensor(copy, tensor, *gpu_stream_);
    gpu_stream_->Synchronize();
  }

  const std::unique_ptr<Communicator> on_gpu_, host_;
  const BothMemories memories_;
  const std::unique_ptr<Stream> gpu_stream_;
  GrownMemory first_, second_;
};

}  // namespace

std::unique_ptr<Communicator> CreateTwoMemoriesCommunicator(std::unique_ptr<Communicator> on_gpu,
                                                            std::unique_ptr<Communicator> host,
                                                            Device gpu) {
  return std::make_unique<TwoMemoriesCommunicator>(std::move(on_gpu), std::move(host), gpu);
}

}  // namespace unipool
