// Base class of communicators over host memory. It checks arguments, numbers the operations, runs
// them on the stream, and handles a group of one rank, which needs no transport. Operations on
// different streams may be pending at the same time; their numbers tell them apart.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "comm/call_log.h"
#include "comm/communicator.h"

namespace unipool {

class HostCommunicator : public Communicator {
 public:
  // Settings shared by all groups of one rank.
  struct Shared {
    int world_rank;           // the rank that errors name
    absl::Duration deadline;  // maximum duration of each wait for other ranks
    CallLog* log = nullptr;   // records the calls unless null; borrowed, must outlive all groups
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
  // One operation: its name (a string literal), and the number of operations of this group before
  // it.
  struct Call {
    const char* name;
    uint64_t number;
  };

  HostCommunicator(std::string name, int rank, int size, Shared shared);

  // Implemented by each transport. Called on the stream's thread, in groups of at least two ranks,
  // with checked arguments. A wait beyond the deadline is fatal, with TimeoutMessage.
  virtual void DoAllReduce(Call call, const Tensor& x, ReduceOp op) = 0;
  virtual void DoReduceScatter(Call call, const Tensor& input, const Tensor& output) = 0;
  virtual void DoAllGather(Call call, const Tensor& input, const Tensor& output) = 0;
  virtual void DoAllToAllV(Call call, const Tensor& input, const int64_t* send_rows,
                           const Tensor& output, const int64_t* recv_rows) = 0;
  virtual void DoBroadcast(Call call, const Tensor& x, int root) = 0;
  virtual void DoBarrier(Call call) = 0;

  // Records the call in the log while the returned scope lives.
  CallLog::Scope Record(Call call) { return {shared_.log, call.name, name_, call.number}; }
  Call NextCall(const char* name) { return Call{name, next_number_++}; }
  absl::Duration deadline() const { return shared_.deadline; }
  const Shared& shared() const { return shared_; }
  const std::string& name() const { return name_; }
  // The error of a wait beyond the deadline: rank, host, operation, progress, and what to do.
  std::string TimeoutMessage(Call call, const MissingRanks& missing) const;
  // Sets in the log which ranks a long pending call waits for, so that the watchdog can report
  // them.
  void SetMissing(Call call, const MissingRanks& missing) const;

 private:
  const std::string name_;
  const int rank_;
  const int size_;
  const Shared shared_;
  uint64_t next_number_ = 0;
};

}  // namespace unipool
