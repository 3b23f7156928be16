#include "comm/staged_communicator.h"

#include <glog/logging.h>

#include <numeric>
#include <utility>

#include "comm/growing_buffer.h"
#include "comm/host_tensor_calls.h"
#include "runtime/copy.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kInitialBytes = int64_t{1} << 20;

int64_t Sum(absl::Span<const int64_t> rows) {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0});
}

Tensor Flat(const Tensor& tensor) { return tensor.Reshape({tensor.numel()}); }

class StagedCommunicator : public Communicator {
 public:
  static absl::StatusOr<std::unique_ptr<Communicator>> Create(std::unique_ptr<Communicator> host,
                                                              Device gpu);

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  DeviceType device_type() const override { return DeviceType::kCuda; }

  void AllReduce(Tensor x, ReduceOp op, Stream& stream) override;
  void ReduceScatter(Tensor input, Tensor output, Stream& stream) override;
  void AllGather(Tensor input, Tensor output, Stream& stream) override;
  void AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                 absl::Span<const int64_t> recv_rows, Stream& stream) override;
  void Broadcast(Tensor x, int root, Stream& stream) override;
  void Barrier() override { host_->Barrier(); }
  std::unique_ptr<Communicator> Split(int color, const std::string& name) override;

 private:
  StagedCommunicator(std::unique_ptr<Communicator> host, Device gpu)
      : host_(std::move(host)),
        host_calls_(gpu),
        receive_buffer_(GrowingBuffer::Kind::kPinned, gpu),
        send_buffer_(GrowingBuffer::Kind::kPinned, gpu) {}

  // Returns a copy in pinned host memory, made after the work of `stream`.
  Tensor CopyToHost(const Tensor& tensor, Stream& stream) {
    const Tensor staged = send_buffer_.Like(tensor);
    CopyTensor(tensor, staged, stream);
    stream.Synchronize();
    return staged;
  }
  static void CopyToGpu(const Tensor& staged, const Tensor& tensor, Stream& stream) {
    CopyTensor(staged, tensor, stream);
    stream.Synchronize();  // the next call, on any stream, reuses the buffers
  }
  // The result of a collective in a group of one rank.
  static void CopyOnDevice(const Tensor& input, const Tensor& output, Stream& stream) {
    if (input.data != output.data) CopyTensor(Flat(input), Flat(output), stream);
  }

  const std::unique_ptr<Communicator> host_;
  const HostTensorCalls host_calls_;
  GrowingBuffer receive_buffer_, send_buffer_;
};

absl::StatusOr<std::unique_ptr<Communicator>> StagedCommunicator::Create(
    std::unique_ptr<Communicator> host, Device gpu) {
  std::unique_ptr<StagedCommunicator> self(new StagedCommunicator(std::move(host), gpu));
  RETURN_IF_ERROR(self->receive_buffer_.Reserve(kInitialBytes));
  RETURN_IF_ERROR(self->send_buffer_.Reserve(kInitialBytes));
  return self;
}

void StagedCommunicator::AllReduce(Tensor x, ReduceOp op, Stream& stream) {
  if (host_calls_.IsOnHost(x)) return host_->AllReduce(x, op, host_calls_.StreamAfter(stream));
  if (size() == 1) return;
  const Tensor staged = CopyToHost(x, stream);
  host_->AllReduce(staged, op, host_calls_.idle_stream());
  CopyToGpu(staged, x, stream);
}

void StagedCommunicator::ReduceScatter(Tensor input, Tensor output, Stream& stream) {
  if (host_calls_.IsOnHost(input))
    return host_->ReduceScatter(input, output, host_calls_.StreamAfter(stream));
  CheckReduceScatter(*this, input, output);
  if (size() == 1) return CopyOnDevice(input, output, stream);
  const Tensor mine = receive_buffer_.Like(output);
  host_->ReduceScatter(CopyToHost(input, stream), mine, host_calls_.idle_stream());
  CopyToGpu(mine, output, stream);
}

void StagedCommunicator::AllGather(Tensor input, Tensor output, Stream& stream) {
  if (host_calls_.IsOnHost(input))
    return host_->AllGather(input, output, host_calls_.StreamAfter(stream));
  CheckAllGather(*this, input, output);
  if (size() == 1) return CopyOnDevice(input, output, stream);
  const Tensor all = receive_buffer_.Like(output);
  host_->AllGather(CopyToHost(input, stream), all, host_calls_.idle_stream());
  CopyToGpu(all, output, stream);
}

void StagedCommunicator::AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                                   absl::Span<const int64_t> recv_rows, Stream& stream) {
  if (host_calls_.IsOnHost(input)) {
    return host_->AllToAllV(input, send_rows, output, recv_rows, host_calls_.StreamAfter(stream));
  }
  CheckAllToAllV(*this, input, send_rows, output, recv_rows);
  const Tensor sent = input.Rows(0, Sum(send_rows));
  const Tensor received = output.Rows(0, Sum(recv_rows));
  if (size() == 1) return CopyOnDevice(sent, received, stream);
  const Tensor staged = receive_buffer_.Like(received);
  host_->AllToAllV(CopyToHost(sent, stream), send_rows, staged, recv_rows,
                   host_calls_.idle_stream());
  CopyToGpu(staged, received, stream);
}

void StagedCommunicator::Broadcast(Tensor x, int root, Stream& stream) {
  if (host_calls_.IsOnHost(x)) return host_->Broadcast(x, root, host_calls_.StreamAfter(stream));
  CHECK(0 <= root && root < size()) << root << " of " << size();
  if (size() == 1) return;
  const Tensor staged = rank() == root ? CopyToHost(x, stream) : send_buffer_.Like(x);
  host_->Broadcast(staged, root, host_calls_.idle_stream());
  if (rank() != root) CopyToGpu(staged, x, stream);
}

std::unique_ptr<Communicator> StagedCommunicator::Split(int color, const std::string& name) {
  absl::StatusOr<std::unique_ptr<Communicator>> part =
      Create(host_->Split(color, name), host_calls_.gpu());
  CHECK(part.ok()) << part.status().message();
  return std::move(*part);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateStagedCommunicator(
    std::unique_ptr<Communicator> host, Device gpu) {
  return StagedCommunicator::Create(std::move(host), gpu);
}

}  // namespace unipool
