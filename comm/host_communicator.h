// What communicators over host memory share: the checks, the numbers of the operations, the way
// onto the stream, and the answers of a group of one rank, which needs no transport. Operations
// that are on different streams may be under way at once; their numbers keep them apart.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "comm/call_log.h"
#include "comm/communicator.h"

namespace unipool {

class HostCommunicator : public Communicator {
 public:
  // What communicators of one rank have in common.
  struct Shared {
    int world_rank;           // by which it is known to people
    absl::Duration deadline;  // of each wait for other ranks
    CallLog* log = nullptr;   // where calls are noted, if anywhere; borrowed
  };

  int rank() const final { return rank_; }
  int size() const final { return size_; }
  DeviceType device_type() const final { return DeviceType::kCpu; }

  void AllReduce(Tensor x, ReduceOp op, Stream& stream) final;
  void ReduceScatter(Tensor input, Tensor output, Stream& stream) final;
  void AllGather(Tensor input, Tensor output, Stream& stream) final;
  void AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                 absl::Span<const int64_t> recv_rows, Stream& stream) final;
  void Broadcast(Tensor x, int root, Stream& stream) final;
  void Barrier() final;

 protected:
  // One operation: its name, and how many of this group came before it.
  struct Call {
    const char* name;
    uint64_t number;
  };

  HostCommunicator(std::string name, int rank, int size, Shared shared);

  // The transports. Each runs on the stream's thread, among at least two ranks, on checked
  // arguments.
  virtual void DoAllReduce(Call call, const Tensor& x, ReduceOp op) = 0;
  virtual void DoReduceScatter(Call call, const Tensor& input, const Tensor& output) = 0;
  virtual void DoAllGather(Call call, const Tensor& input, const Tensor& output) = 0;
  virtual void DoAllToAllV(Call call, const Tensor& input, const int64_t* send_rows,
                           const Tensor& output, const int64_t* recv_rows) = 0;
  virtual void DoBroadcast(Call call, const Tensor& x, int root) = 0;
  virtual void DoBarrier(Call call) = 0;

  // The time of a call in the log.
  CallLog::Scope Noted(Call call) { return {shared_.log, call.name, name_, call.number}; }
  Call NextCall(const char* name) { return Call{name, next_number_++}; }
  absl::Duration deadline() const { return shared_.deadline; }
  const Shared& shared() const { return shared_; }
  const std::string& name() const { return name_; }
  // The line that ends a wait beyond the deadline.
  std::string LateMessage(Call call, const MissingRanks& missing) const;
  // What is missing after a wait that is no longer a short one, to be told by others.
  void NoteMissing(Call call, const MissingRanks& missing) const;

 private:
  const std::string name_;
  const int rank_;
  const int size_;
  const Shared shared_;
  uint64_t next_number_ = 0;
};

}  // namespace unipool
