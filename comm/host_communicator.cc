#include "comm/host_communicator.h"

#include <glog/logging.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/host_name.h"

namespace unipool {
namespace {

void CopyTo(const Tensor& from, int64_t bytes, const Tensor& to) {
  if (bytes > 0 && from.data != to.data) {
    std::memmove(to.data, from.data, static_cast<size_t>(bytes));
  }
}

}  // namespace

HostCommunicator::HostCommunicator(std::string name, int rank, int size, Shared shared)
    : name_(std::move(name)), rank_(rank), size_(size), shared_(shared) {
  CHECK(0 <= rank && rank < size) << rank << " of " << size;
}

void HostCommunicator::AllReduce(Tensor x, ReduceOp op, Stream& stream) {
  if (size_ == 1) return;
  stream.Run([this, call = NextCall("AllReduce"), x, op] {
    const auto scope = Record(call);
    DoAllReduce(call, x, op);
  });
}

void HostCommunicator::ReduceScatter(Tensor input, Tensor output, Stream& stream) {
  CheckReduceScatter(*this, input, output);
  if (size_ == 1) return stream.Run([input, output] { CopyTo(input, input.bytes(), output); });
  stream.Run([this, call = NextCall("ReduceScatter"), input, output] {
    const auto scope = Record(call);
    DoReduceScatter(call, input, output);
  });
}

void HostCommunicator::AllGather(Tensor input, Tensor output, Stream& stream) {
  CheckAllGather(*this, input, output);
  if (size_ == 1) return stream.Run([input, output] { CopyTo(input, input.bytes(), output); });
  stream.Run([this, call = NextCall("AllGather"), input, output] {
    const auto scope = Record(call);
    DoAllGather(call, input, output);
  });
}

void HostCommunicator::AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                                 absl::Span<const int64_t> recv_rows, Stream& stream) {
  CheckAllToAllV(*this, input, send_rows, output, recv_rows);
  if (size_ == 1) {
    CHECK_EQ(send_rows[0], recv_rows[0]);
    const int64_t bytes = send_rows[0] * RowBytes(input);
    return stream.Run([input, bytes, output] { CopyTo(input, bytes, output); });
  }
  stream.Run([this, call = NextCall("AllToAllV"), input, send = send_rows.data(), output,
              recv = recv_rows.data()] {
    const auto scope = Record(call);
    DoAllToAllV(call, input, send, output, recv);
  });
}

void HostCommunicator::Broadcast(Tensor x, int root, Stream& stream) {
  CHECK(0 <= root && root < size_) << root << " of " << size_;
  if (size_ == 1) return;
  stream.Run([this, call = NextCall("Broadcast"), x, root] {
    const auto scope = Record(call);
    DoBroadcast(call, x, root);
  });
}

void HostCommunicator::Barrier() {
  if (size_ == 1) return;
  const Call call = NextCall("Barrier");
  const auto scope = Record(call);
  DoBarrier(call);
}

std::string HostCommunicator::TimeoutMessage(Call call, const MissingRanks& missing) const {
  const std::string progress =
      shared_.log == nullptr ? ""
                             : absl::StrCat(" (", shared_.log->progress().Read().ToString(), ")");
  return absl::StrCat("rank ", shared_.world_rank, " on ", HostName(), " waited ",
                      absl::FormatDuration(shared_.deadline), " for rank ", missing.ToString(),
                      " in ", call.name, " #", call.number, " of group '", name_, "'", progress,
                      "; check the log and the host of rank ", missing.ToString(),
                      ", then restart from the last checkpoint");
}

void HostCommunicator::SetMissing(Call call, const MissingRanks& missing) const {
  if (shared_.log != nullptr) shared_.log->SetMissing(name_, call.number, missing);
}

}  // namespace unipool
