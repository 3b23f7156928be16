#include "comm/nccl_communicator.h"

#include <cuda_runtime.h>
#include <glog/logging.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/growing_buffer.h"
#include "comm/host_name.h"
#include "comm/nccl_functions.h"
#include "runtime/check_cuda.h"
#include "runtime/copy.h"
#include "runtime/gpu.h"
#include "runtime/status.h"
#include "runtime/stream_cuda.h"

// Communicators are non-blocking: an NCCL call may return before it is complete, and its state is
// then polled. So a missing rank leads to a timeout instead of a hang inside NCCL.
namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;

class Session : public NcclSession {
 public:
  Session(Options options, NcclFunctions functions)
      : options_(std::move(options)), functions_(functions) {
    UseDevice(options_.gpu);
    for (Pending& pending : pending_) {
      CUDA_CHECK(cudaEventCreateWithFlags(&pending.event, cudaEventDisableTiming));
    }
  }
  ~Session() override {
    UseDevice(options_.gpu);
    for (Pending& pending : pending_) CUDA_CHECK(cudaEventDestroy(pending.event));
  }

  absl::StatusOr<std::string> NewId() override;
  absl::StatusOr<std::unique_ptr<Communicator>> CreateWorld(const std::string& id, int rank,
                                                            int size) override;
  void RecordCompletedCalls() override;
  void CheckForErrors() override;

  const NcclFunctions& nccl() const { return functions_; }
  Device gpu() const { return options_.gpu; }
  CallLog& log() const { return *options_.log; }
  const Options& options() const { return options_; }
  // "rank 3 on node1, cuda:1".
  std::string RankName() const {
    return absl::StrCat("rank ", options_.world_rank, " on ", HostName(), ", ",
                        ToString(options_.gpu));
  }

  void Add(ncclComm_t comm) {
    const std::lock_guard lock(mutex_);
    comms_.push_back(comm);
  }
  void Remove(ncclComm_t comm) {
    const std::lock_guard lock(mutex_);
    std::erase(comms_, comm);
  }
  // Calls NCCL under the lock. For each call of a non-blocking communicator NCCL starts a job that
  // it does not protect against other threads, not even against one that asks for errors.
  template <typename NcclCall>
  ncclResult_t CallLocked(const NcclCall& call) const {
    const std::lock_guard lock(nccl_mutex_);
    return call();
  }
  // Polls until the last call on `comm` is complete. Returns its result, or ncclInProgress after
  // the deadline.
  ncclResult_t WaitUntilDone(ncclComm_t comm, absl::Duration deadline) const;
  // Ends call `index` of the log when the GPU has completed the work now on the stream.
  void EndWhenComplete(uint64_t index, cudaStream_t stream);
  // Reports `error` and ends the process. A second caller blocks until the process ends.
  [[noreturn]] void EndProcess(ncclResult_t error, const std::string& activity);
  void BlockIfEnding() const {
    while (is_ending_) pause();
  }

 private:
  struct Pending {
    cudaEvent_t event = nullptr;
    uint64_t call = 0;
    bool is_used = false;
  };

  void AbortAll();

  const Options options_;
  const NcclFunctions functions_;
  std::atomic<bool> is_ending_ = false;
  mutable std::timed_mutex nccl_mutex_;  // lock order: mutex_, then nccl_mutex_
  std::mutex mutex_;
  std::vector<ncclComm_t> comms_;
  std::array<Pending, 256> pending_;
  uint64_t next_pending_ = 0;
};

// Takes GPU tensors only.
class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(Session& session, ncclComm_t comm, std::string name, int rank, int size);
  ~NcclCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  DeviceType device_type() const override { return DeviceType::kCuda; }

  void AllReduce(Tensor x, ReduceOp op, Stream& stream) override;
  void ReduceScatter(Tensor input, Tensor output, Stream& stream) override;
  void AllGather(Tensor input, Tensor output, Stream& stream) override;
  void AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                 absl::Span<const int64_t> recv_rows, Stream& stream) override;
  void Broadcast(Tensor x, int root, Stream& stream) override;
  void Barrier() override;
  std::unique_ptr<Communicator> Split(int color, const std::string& name) override;

 private:
  // Makes each kind of call once, so that NCCL sets up its channels and connections.
  void WarmUp();
  // Waits until NCCL has enqueued the call; a timeout or an error ends the process. `activity` is
  // the call as errors describe it.
  void WaitUntilEnqueued(const std::string& activity);
  template <typename Enqueue>
  void Call(const char* call_name, Stream& stream, Enqueue enqueue);

  Session& session_;
  const ncclComm_t comm_;
  const std::string name_;
  const int rank_, size_;
  const std::unique_ptr<Stream> stream_;  // for calls without a stream: Barrier, Split, WarmUp
  GrowingBuffer numbers_, more_numbers_;  // scratch, int32 [size]
  uint64_t next_number_ = 0;
};

ncclDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kInt32:
      return ncclInt32;
    case DType::kInt64:
      return ncclInt64;
    case DType::kBFloat16:
      return ncclBfloat16;
  }
  LOG(FATAL) << "NCCL has no type for " << Name(dtype);
  return ncclInt8;
}

size_t Bytes(const Tensor& tensor) { return static_cast<size_t>(tensor.bytes()); }
size_t Elements(const Tensor& tensor) { return static_cast<size_t>(tensor.numel()); }

void CopyOnGpu(const Tensor& from, const Tensor& to, Stream& stream) {
  if (from.data != to.data && !from.empty()) EnqueueCopy(to.data, from.data, Bytes(from), stream);
}

absl::StatusOr<std::string> Session::NewId() {
  UseDevice(options_.gpu);
  ncclUniqueId id;
  const ncclResult_t result = functions_.GetUniqueId(&id);
  if (result == ncclSuccess) return std::string(id.internal, sizeof(id.internal));
  return absl::InternalError(
      absl::StrCat(RankName(), ": ncclGetUniqueId: ", functions_.GetErrorString(result), ": ",
                   functions_.GetLastError(nullptr), "; set NCCL_DEBUG=INFO for details"));
}

absl::StatusOr<std::unique_ptr<Communicator>> Session::CreateWorld(const std::string& id, int rank,
                                                                   int size) {
  CHECK_EQ(id.size(), sizeof(ncclUniqueId));
  UseDevice(options_.gpu);
  ncclUniqueId unique_id;
  std::memcpy(unique_id.internal, id.data(), id.size());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  ncclResult_t result = functions_.CommInitRankConfig(&comm, size, unique_id, rank, &config);
  if (result == ncclInProgress) result = WaitUntilDone(comm, options_.deadline);
  if (result == ncclSuccess) {
    return std::make_unique<NcclCommunicator>(*this, comm, "world", rank, size);
  }
  const std::string this_rank = RankName();
  const std::string last_error = functions_.GetLastError(comm);
  if (comm != nullptr) functions_.CommAbort(comm);
  if (result == ncclInProgress) {
    return absl::DeadlineExceededError(absl::StrCat(
        this_rank, ": NCCL did not connect ", size, " ranks within ",
        absl::FormatDuration(options_.deadline),
        "; set NCCL_DEBUG=INFO to see the addresses it uses and NCCL_SOCKET_IFNAME to choose the "
        "network"));
  }
  return absl::InternalError(
      absl::StrCat(this_rank, ": ncclCommInitRankConfig: ", functions_.GetErrorString(result), ": ",
                   last_error, "; set NCCL_DEBUG=INFO for details"));
}

ncclResult_t Session::WaitUntilDone(ncclComm_t comm, absl::Duration deadline) const {
  const auto until = Clock::now() + absl::ToChronoNanoseconds(deadline);
  while (true) {
    BlockIfEnding();
    ncclResult_t state = ncclSuccess;
    NCCL_CHECK(functions_, CallLocked([&] { return functions_.CommGetAsyncError(comm, &state); }));
    if (state != ncclInProgress || Clock::now() > until) return state;
    sched_yield();
  }
}

void Session::EndWhenComplete(uint64_t index, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  Pending& pending = pending_[next_pending_++ % pending_.size()];
  // All events are in use. The oldest call matters to the watchdog, so this one is recorded as
  // done.
  if (pending.is_used) return log().End(index);
  CUDA_CHECK(cudaEventRecord(pending.event, stream));
  pending.call = index;
  pending.is_used = true;
}

void Session::RecordCompletedCalls() {
  const std::lock_guard lock(mutex_);
  UseDevice(options_.gpu);
  for (Pending& pending : pending_) {
    if (!pending.is_used) continue;
    const cudaError_t state = cudaEventQuery(pending.event);
    if (state == cudaErrorNotReady) continue;
    CUDA_CHECK(state);
    log().End(pending.call);
    pending.is_used = false;
  }
}

void Session::CheckForErrors() {
  ncclResult_t error = ncclSuccess;
  {
    const std::lock_guard lock(mutex_);
    if (is_ending_) return;
    // If another thread is stuck in NCCL, the watchdog sees its pending call in the log.
    const std::unique_lock nccl_lock(nccl_mutex_, std::chrono::milliseconds(100));
    if (!nccl_lock.owns_lock()) return;
    for (size_t i = 0; i < comms_.size() && !IsError(error); ++i) {
      NCCL_CHECK(functions_, functions_.CommGetAsyncError(comms_[i], &error));
    }
  }
  if (IsError(error)) EndProcess(error, log().CurrentActivity());
}

void Session::EndProcess(ncclResult_t error, const std::string& activity) {
  if (is_ending_.exchange(true)) BlockIfEnding();
  // Aborting ends the kernels that wait for the lost rank. NCCL may take long or never return,
  // hence another thread and a limit of 5 seconds.
  std::atomic<bool> aborted = false;
  std::thread([this, &aborted] {
    AbortAll();
    aborted = true;
  }).detach();
  for (int i = 0; i < 50 && !aborted; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const std::string text =
      absl::StrCat(RankName(), " lost another rank in ", activity, ": NCCL reports '",
                   functions_.GetErrorString(error),
                   "'; check the logs of the other ranks, then restart from the last checkpoint");
  if (options_.on_error) options_.on_error(text);
  LOG(FATAL) << text;
  std::abort();
}

void Session::AbortAll() {
  std::vector<ncclComm_t> comms;
  {
    const std::lock_guard lock(mutex_);
    comms = comms_;
  }
  // Aborts after one second even if another thread is still inside NCCL.
  const std::unique_lock nccl_lock(nccl_mutex_, std::chrono::seconds(1));
  for (ncclComm_t comm : comms) functions_.CommAbort(comm);
}

NcclCommunicator::NcclCommunicator(Session& session, ncclComm_t comm, std::string name, int rank,
                                   int size)
    : session_(session),
      comm_(comm),
      name_(std::move(name)),
      rank_(rank),
      size_(size),
      stream_(Stream::Create(session.gpu(), Stream::Kind::kSide)),
      numbers_(GrowingBuffer::Kind::kOnGpu, session.gpu()),
      more_numbers_(GrowingBuffer::Kind::kOnGpu, session.gpu()) {
  session_.Add(comm_);
  WarmUp();
}

NcclCommunicator::~NcclCommunicator() {
  session_.Remove(comm_);
  const NcclFunctions& nccl = session_.nccl();
  stream_->Synchronize();
  // CommFinalize is collective. If the other ranks do not take part in time, abort instead.
  const absl::Duration timeout = std::min(session_.options().deadline, absl::Seconds(10));
  ncclResult_t result = nccl.CommFinalize(comm_);
  if (result == ncclInProgress) result = session_.WaitUntilDone(comm_, timeout);
  if (result == ncclSuccess) {
    nccl.CommDestroy(comm_);
  } else {
    nccl.CommAbort(comm_);
  }
}

void NcclCommunicator::WaitUntilEnqueued(const std::string& activity) {
  // Longer than the watchdog's deadline, because the watchdog's report says more.
  const absl::Duration deadline = session_.options().deadline + absl::Seconds(20);
  const ncclResult_t result = session_.WaitUntilDone(comm_, deadline);
  if (IsError(result)) session_.EndProcess(result, activity);
  if (result == ncclInProgress) {
    LOG(FATAL) << session_.RankName() << " waited " << absl::FormatDuration(deadline) << " in "
               << activity << "; check the logs of the other ranks, then restart from the last "
               << "checkpoint";
  }
}

// Enqueues one operation by `enqueue` and records it in the log, pending until the GPU completes
// it.
template <typename Enqueue>
void NcclCommunicator::Call(const char* call_name, Stream& stream, Enqueue enqueue) {
  session_.BlockIfEnding();
  const uint64_t number = next_number_++;
  const uint64_t index = session_.log().Begin(call_name, name_, number);
  const cudaStream_t cuda_stream = CudaStream(stream);
  const ncclResult_t result =
      session_.CallLocked([&] { return enqueue(session_.nccl(), cuda_stream); });
  if (result != ncclSuccess) {
    const std::string activity = absl::StrCat(call_name, " #", number, " of group '", name_, "' (",
                                              session_.log().progress().Read().ToString(), ")");
    if (result == ncclRemoteError || result == ncclSystemError)
      session_.EndProcess(result, activity);
    NCCL_CHECK(session_.nccl(), result);
    WaitUntilEnqueued(activity);
  }
  session_.EndWhenComplete(index, cuda_stream);
}

void NcclCommunicator::AllReduce(Tensor x, ReduceOp op, Stream& stream) {
  if (size_ == 1 || x.empty()) return;
  Call("AllReduce", stream, [&](const NcclFunctions& nccl, cudaStream_t cuda_stream) {
    return nccl.AllReduce(x.data, x.data, Elements(x), TypeOf(x.dtype),
                          op == ReduceOp::kSum ? ncclSum : ncclMax, comm_, cuda_stream);
  });
}

void NcclCommunicator::ReduceScatter(Tensor input, Tensor output, Stream& stream) {
  CheckReduceScatter(*this, input, output);
  if (output.empty()) return;
  if (size_ == 1) return CopyOnGpu(input, output, stream);
  Call("ReduceScatter", stream, [&](const NcclFunctions& nccl, cudaStream_t cuda_stream) {
    return nccl.ReduceScatter(input.data, output.data, Elements(output), TypeOf(input.dtype),
                              ncclSum, comm_, cuda_stream);
  });
}

void NcclCommunicator::AllGather(Tensor input, Tensor output, Stream& stream) {
  CheckAllGather(*this, input, output);
  if (input.empty()) return;
  if (size_ == 1) return CopyOnGpu(input, output, stream);
  Call("AllGather", stream, [&](const NcclFunctions& nccl, cudaStream_t cuda_stream) {
    return nccl.AllGather(input.data, output.data, Elements(input), TypeOf(input.dtype), comm_,
                          cuda_stream);
  });
}

void NcclCommunicator::AllToAllV(Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                                 absl::Span<const int64_t> recv_rows, Stream& stream) {
  CheckAllToAllV(*this, input, send_rows, output, recv_rows);
  CHECK_EQ(send_rows[rank_], recv_rows[rank_]);
  const auto row_bytes = static_cast<size_t>(RowBytes(input));
  Call("AllToAllV", stream, [&](const NcclFunctions& nccl, cudaStream_t cuda_stream) {
    const char* from = static_cast<const char*>(input.data);
    char* to = static_cast<char*>(output.data);
    ncclResult_t result = nccl.GroupStart();
    for (int r = 0; r < size_ && !IsError(result); ++r) {
      const size_t sent = static_cast<size_t>(send_rows[r]) * row_bytes;
      const size_t received = static_cast<size_t>(recv_rows[r]) * row_bytes;
      if (r == rank_) {
        if (sent > 0) EnqueueCopy(to, from, sent, stream);
      } else {
        if (sent > 0) result = nccl.Send(from, sent, ncclInt8, r, comm_, cuda_stream);
        if (received > 0 && !IsError(result)) {
          result = nccl.Recv(to, received, ncclInt8, r, comm_, cuda_stream);
        }
      }
      from += sent;
      to += received;
    }
    const ncclResult_t end = nccl.GroupEnd();
    return IsError(result) ? result : end;
  });
}

void NcclCommunicator::Broadcast(Tensor x, int root, Stream& stream) {
  CHECK(0 <= root && root < size_) << root << " of " << size_;
  if (size_ == 1 || x.empty()) return;
  Call("Broadcast", stream, [&](const NcclFunctions& nccl, cudaStream_t cuda_stream) {
    return nccl.Broadcast(x.data, x.data, Bytes(x), ncclInt8, root, comm_, cuda_stream);
  });
}

void NcclCommunicator::Barrier() {
  AllReduce(numbers_.Like(Tensor::Of<int32_t>(nullptr, {1})), ReduceOp::kMax, *stream_);
  stream_->Synchronize();
}

void NcclCommunicator::WarmUp() {
  const Tensor all = numbers_.Like(Tensor::Of<int32_t>(nullptr, {size_}));
  const Tensor others = more_numbers_.Like(all);
  const Tensor mine = all.Rows(rank_, rank_ + 1);
  const std::vector<int64_t> ones(size_, 1);
  AllReduce(all, ReduceOp::kSum, *stream_);
  ReduceScatter(all, mine, *stream_);
  AllGather(mine, all, *stream_);
  Broadcast(all, 0, *stream_);
  AllToAllV(all, ones, others, ones, *stream_);
  stream_->Synchronize();
}

std::unique_ptr<Communicator> NcclCommunicator::Split(int color, const std::string& name) {
  std::vector<int32_t> colors(size_, color);
  const Tensor on_gpu = numbers_.Like(Tensor::Of(colors.data(), {size_}));
  CopyTensor(Tensor::Of(colors.data(), {size_}), on_gpu, *stream_);
  AllGather(on_gpu.Rows(rank_, rank_ + 1), on_gpu, *stream_);
  CopyTensor(on_gpu, Tensor::Of(colors.data(), {size_}), *stream_);
  stream_->Synchronize();
  const auto size = std::count(colors.begin(), colors.end(), color);
  const auto rank = std::count(colors.begin(), colors.begin() + rank_, color);
  const std::string activity = absl::StrCat("Split into '", name, "' of group '", name_, "'");
  ncclComm_t part = nullptr;
  NCCL_CHECK(session_.nccl(), session_.CallLocked([&] {
    return session_.nccl().CommSplit(comm_, color, rank_, &part, nullptr);
  }));
  // `part` may be set only when the call on the old communicator is complete.
  WaitUntilEnqueued(activity);
  CHECK(part != nullptr) << activity;
  const ncclResult_t result = session_.WaitUntilDone(part, session_.options().deadline);
  if (result != ncclSuccess) session_.EndProcess(result, activity);
  return std::make_unique<NcclCommunicator>(session_, part, name, static_cast<int>(rank),
                                            static_cast<int>(size));
}

}  // namespace

LibraryVersion NcclVersion() {
  LibraryVersion version{.built = absl::StrCat(NCCL_MAJOR, ".", NCCL_MINOR, ".", NCCL_PATCH)};
  const absl::StatusOr<NcclFunctions> functions = LoadNcclFunctions();
  int found = 0;
  if (functions.ok() && functions->GetVersion(&found) == ncclSuccess) {
    version.found = absl::StrCat(found / 10000, ".", found / 100 % 100, ".", found % 100);
  } else {
    version.found = std::string(functions.status().message());
  }
  return version;
}

absl::StatusOr<std::unique_ptr<NcclSession>> NcclSession::Create(Options options) {
  CHECK(options.gpu.type == DeviceType::kCuda && options.log != nullptr);
  // Otherwise NCCL connects the algorithms for large tensors only in the first step.
  setenv("NCCL_RUNTIME_CONNECT", "0", 0);
  ASSIGN_OR_RETURN(const NcclFunctions functions, LoadNcclFunctions());
  return std::make_unique<Session>(std::move(options), functions);
}

}  // namespace unipool
