#include "comm/staged_communicator.h"

#include <glog/logging.h>

#include <numeric>
#include <utility>

#include "comm/both_memories.h"
#include "comm/grown_memory.h"
#include "runtime/copy.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kFirstBytes = int64_t{1} << 20;

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
        memories_(gpu),
        incoming_(GrownMemory::Kind::kPinned, gpu),
        outgoing_(GrownMemory::Kind::kPinned, gpu) {}

  // The tensor's bytes on the host, after all work before.
  Tensor Fetch(const Tensor& tensor, Stream& stream) {
    const Tensor staged = outgoing_.Like(tensor);
    CopyTensor(tensor, staged, stream);
    stream.Synchronize();
    return staged;
  }
  static void Store(const Tensor& staged, const Tensor& tensor, Stream& stream) {
    CopyTensor(staged, tensor, stream);
    stream.Synchronize();  // the next call, on any stream, takes the same memory
  }
  // What a group of one rank does.
  static void CopyOnDevice(const Tensor& input, const Tensor& output, Stream& stream) {
    if (input.data != output.data) CopyTensor(Flat(input), Flat(output), stream);
  }

  const std::unique_ptr<Communicator> host_;
  const BothMemories memories_;
  GrownMemory incoming_, outgoing_;
};

absl::StatusOr<std::unique_ptr<Communicator>> StagedCommunicator::Create(
    std::unique_ptr<Communicator> host, Device gpu) {
  std::unique_ptr<StagedCommunicator> self(new StagedCommunicator(std::move(host), gpu));
  RETURN_IF_ERROR(self->incoming_.Reserve(kFirstBytes));
  RETURN_IF_ERROR(self->outgoing_.Reserve(kFirstBytes));
  return self;
}

void StagedCommunicator::AllReduce(Tensor x, ReduceOp op, Stream& stream) {
  if (memories_.IsOnHost(x)) return host_->AllReduce(x, op, memories_.HostStream(stream));
  if (size() == 1) return;
  const Tensor staged = Fetch(x, stream);
  host_->AllReduce(staged, op, memories_.host_stream());
  Store(staged, x, stream);
}

void StagedCommunicator::ReduceScatter(Tensor input, Tensor output, Stream& stream) {
  if (memories_.IsOnHost(input))
    return host_->ReduceScatter(input, output, memories_.HostStream(stream));
  CheckReduceScatter(*this, input, output);
  if (size() == 1) return CopyOnDevice(input, output, stream);
  const Tensor mine = incoming_.Like(output);
  host_->ReduceScatter(Fetch(input, stream), mine, memories_.host_stream());
  Store(mine, output, stream);
}

void StagedCommunicator::AllGather(Tensor input, Tensor output, Stream& stream) {
  if (memories_.IsOnHost(input))
    return host_->AllGather(input, output, memories_.HostStream(stream));
  CheckAllGather(*this, input, output);
  if (size() == 1) return CopyOnDevice(input, output, stream);
  const Tensor all = incoming_.Like(output);
  host_->AllGather(Fetch(input, stream), all, memories_.host_stream());
  Store(all, output, stream);
}

void StagedCommunicator::AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                                   absl::Span<const int64_t> recv_rows, Stream& stream) {
  if (memories_.IsOnHost(input)) {
    return host_->AllToAllV(input, send_rows, output, recv_rows, memories_.HostStream(stream));
  }
  CheckAllToAllV(*this, input, send_rows, output, recv_rows);
  const Tensor sent = input.Rows(0, Sum(send_rows));
  const Tensor received = output.Rows(0, Sum(recv_rows));
  if (size() == 1) return CopyOnDevice(sent, received, stream);
  const Tensor arrived = incoming_.Like(received);
  host_->AllToAllV(Fetch(sent, stream), send_rows, arrived, recv_rows, memories_.host_stream());
  Store(arrived, received, stream);
}

void StagedCommunicator::Broadcast(Tensor x, int root, Stream& stream) {
  if (memories_.IsOnHost(x)) return host_->Broadcast(x, root, memories_.HostStream(stream));
  CHECK(0 <= root && root < size()) << root << " of " << size();
  if (size() == 1) return;
  const Tensor staged = rank() == root ? Fetch(x, stream) : outgoing_.Like(x);
  host_->Broadcast(staged, root, memories_.host_stream());
  if (rank() != root) Store(staged, x, stream);
}

std::unique_ptr<Communicator> StagedCommunicator::Split(int color, const std::string& name) {
  absl::StatusOr<std::unique_ptr<Communicator>> part =
      Create(host_->Split(color, name), memories_.gpu());
  CHECK(part.ok()) << part.status().message();
  return std::move(*part);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateStagedCommunicator(
    std::unique_ptr<Communicator> host, Device gpu) {
  return StagedCommunicator::Create(std::move(host), gpu);
}

}  // namespace unipool
