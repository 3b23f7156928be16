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
#include "comm/grown_memory.h"
#include "comm/nccl_functions.h"
#include "runtime/check_cuda.h"
#include "runtime/copy.h"
#include "runtime/gpu.h"
#include "runtime/status.h"
#include "runtime/stream_cuda.h"

// Communicators are non-blocking: a call of NCCL may return before it is done, and is asked after
// until it is, so that a rank that does not come meets a deadline and not a hang.
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
  void NoteDoneCalls() override;
  void ActOnErrors() override;

  const NcclFunctions& nccl() const { return functions_; }
  Device gpu() const { return options_.gpu; }
  CallLog& log() const { return *options_.log; }
  const Options& options() const { return options_; }

  void Add(ncclComm_t comm) {
    const std::lock_guard lock(mutex_);
    comms_.push_back(comm);
  }
  void Remove(ncclComm_t comm) {
    const std::lock_guard lock(mutex_);
    std::erase(comms_, comm);
  }
  // Calls NCCL. A communicator that does not block has a job of its own for each call, which NCCL
  // guards against no second thread: not even one that asks for errors.
  template <typename Ask>
  ncclResult_t Alone(const Ask& ask) const {
    const std::lock_guard lock(nccl_mutex_);
    return ask();
  }
  // Until what was asked of `comm` is done: its result, or ncclInProgress after the deadline.
  ncclResult_t Settle(ncclComm_t comm, absl::Duration deadline) const;
  // Call `index` of the log is done when the stream has come so far.
  void EndAfter(uint64_t index, cudaStream_t stream);
  // Ends the process. Whoever comes second waits for the end.
  [[noreturn]] void Lose(ncclResult_t error, const std::string& where);
  void WaitWhereLost() const {
    while (is_lost_) pause();
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
  std::atomic<bool> is_lost_ = false;
  mutable std::timed_mutex nccl_mutex_;  // taken after mutex_
  std::mutex mutex_;
  std::vector<ncclComm_t> comms_;
  std::array<Pending, 256> pending_;
  uint64_t next_pending_ = 0;
};

// Of tensors of the GPU only.
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
  // Makes each kind of call once: channels and connections are set up by it.
  void WarmUp();
  // Waits until NCCL has taken what was asked for.
  void Settle(const std::string& what);
  template <typename Enqueue>
  void Call(const char* call_name, Stream& stream, Enqueue enqueue);

  Session& session_;
  const ncclComm_t comm_;
  const std::string name_;
  const int rank_, size_;
  const std::unique_ptr<Stream> stream_;  // of calls that are not the caller's
  GrownMemory numbers_, more_numbers_;    // int32 [ranks]
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
  LOG(FATAL) << "no type of NCCL's for " << Name(dtype);
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
  return absl::InternalError(absl::StrCat("rank ", options_.world_rank,
                                          ": ncclGetUniqueId: ", functions_.GetErrorString(result),
                                          ": ", functions_.GetLastError(nullptr)));
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
  if (result == ncclInProgress) result = Settle(comm, options_.deadline);
  if (result == ncclSuccess) {
    return std::make_unique<NcclCommunicator>(*this, comm, "world", rank, size);
  }
  const std::string where =
      absl::StrCat("rank ", options_.world_rank, " on ", ToString(options_.gpu));
  const std::string last_error = functions_.GetLastError(comm);
  if (comm != nullptr) functions_.CommAbort(comm);
  if (result == ncclInProgress) {
    return absl::DeadlineExceededError(absl::StrCat(
        where, ": NCCL did not bring ", size, " ranks together within ",
        absl::FormatDuration(options_.deadline), "; NCCL_DEBUG=INFO tells whom it tried to reach"));
  }
  return absl::InternalError(absl::StrCat(
      where, ": ncclCommInitRankConfig: ", functions_.GetErrorString(result), ": ", last_error));
}

ncclResult_t Session::Settle(ncclComm_t comm, absl::Duration deadline) const {
  const auto until = Clock::now() + absl::ToChronoNanoseconds(deadline);
  while (true) {
    WaitWhereLost();
    ncclResult_t state = ncclSuccess;
    NCCL_CHECK(functions_, Alone([&] { return functions_.CommGetAsyncError(comm, &state); }));
    if (state != ncclInProgress || Clock::now() > until) return state;
    sched_yield();
  }
}

void Session::EndAfter(uint64_t index, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  Pending& pending = pending_[next_pending_++ % pending_.size()];
  // The oldest call is not known to be done: it, not this one, is what a watchdog wants to see.
  if (pending.is_used) return log().End(index);
  CUDA_CHECK(cudaEventRecord(pending.event, stream));
  pending.call = index;
  pending.is_used = true;
}

void Session::NoteDoneCalls() {
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

void Session::ActOnErrors() {
  ncclResult_t error = ncclSuccess;
  {
    const std::lock_guard lock(mutex_);
    if (is_lost_) return;
    // A call that does not come back is seen by its place in the log.
    const std::unique_lock nccl_lock(nccl_mutex_, std::chrono::milliseconds(100));
    if (!nccl_lock.owns_lock()) return;
    for (size_t i = 0; i < comms_.size() && !IsError(error); ++i) {
      NCCL_CHECK(functions_, functions_.CommGetAsyncError(comms_[i], &error));
    }
  }
  if (IsError(error)) Lose(error, log().NowInWords());
}

void Session::Lose(ncclResult_t error, const std::string& where) {
  if (is_lost_.exchange(true)) WaitWhereLost();
  // Kernels that wait for the lost rank end; NCCL may take long over it, or for ever.
  std::atomic<bool> aborted = false;
  std::thread([this, &aborted] {
    AbortAll();
    aborted = true;
  }).detach();
  for (int i = 0; i < 50 && !aborted; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const std::string words = absl::StrCat("rank ", options_.world_rank, " on ",
                                         ToString(options_.gpu), " lost another rank in ", where,
                                         ": NCCL says ", functions_.GetErrorString(error));
  if (options_.on_lost) options_.on_lost(words);
  LOG(FATAL) << words;
  std::abort();
}

void Session::AbortAll() {
  std::vector<ncclComm_t> comms;
  {
    const std::lock_guard lock(mutex_);
    comms = comms_;
  }
  // Whether the thread that is inside of NCCL comes out of it or not.
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
      numbers_(GrownMemory::Kind::kOnGpu, session.gpu()),
      more_numbers_(GrownMemory::Kind::kOnGpu, session.gpu()) {
  session_.Add(comm_);
  WarmUp();
}

NcclCommunicator::~NcclCommunicator() {
  session_.Remove(comm_);
  const NcclFunctions& nccl = session_.nccl();
  stream_->Synchronize();
  // Together with the others, if they come; what is left of the run does not depend on it.
  const absl::Duration patience = std::min(session_.options().deadline, absl::Seconds(10));
  ncclResult_t result = nccl.CommFinalize(comm_);
  if (result == ncclInProgress) result = session_.Settle(comm_, patience);
  if (result == ncclSuccess) {
    nccl.CommDestroy(comm_);
  } else {
    nccl.CommAbort(comm_);
  }
}

void NcclCommunicator::Settle(const std::string& what) {
  // The watchdog knows more than the call that waits, so that this one has a little more patience.
  const absl::Duration deadline = session_.options().deadline + absl::Seconds(20);
  const ncclResult_t result = session_.Settle(comm_, deadline);
  if (IsError(result)) session_.Lose(result, what);
  if (result == ncclInProgress) {
    LOG(FATAL) << "rank " << session_.options().world_rank << " waited "
               << absl::FormatDuration(deadline) << " in " << what;
  }
}

// One operation: noted, enqueued by `enqueue`, and under way in the log until the GPU has done it.
template <typename Enqueue>
void NcclCommunicator::Call(const char* call_name, Stream& stream, Enqueue enqueue) {
  session_.WaitWhereLost();
  const uint64_t number = next_number_++;
  const uint64_t index = session_.log().Begin(call_name, name_, number);
  const cudaStream_t cuda_stream = CudaStream(stream);
  const ncclResult_t result = session_.Alone([&] { return enqueue(session_.nccl(), cuda_stream); });
  if (result != ncclSuccess) {
    const std::string what = absl::StrCat(call_name, " #", number, " of group '", name_, "' (",
                                          session_.log().progress().Read().ToString(), ")");
    if (result == ncclRemoteError || result == ncclSystemError) session_.Lose(result, what);
    NCCL_CHECK(session_.nccl(), result);
    Settle(what);
  }
  session_.EndAfter(index, cuda_stream);
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
  const std::string what = absl::StrCat("Split into '", name, "' of group '", name_, "'");
  ncclComm_t part = nullptr;
  NCCL_CHECK(session_.nccl(), session_.Alone([&] {
    return session_.nccl().CommSplit(comm_, color, rank_, &part, nullptr);
  }));
  // The new communicator may be there only when the old one is done with it.
  Settle(what);
  CHECK(part != nullptr) << what;
  const ncclResult_t result = session_.Settle(part, session_.options().deadline);
  if (result != ncclSuccess) session_.Lose(result, what);
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
  // Else connections of algorithms that large tensors take are made in the first step.
  setenv("NCCL_RUNTIME_CONNECT", "0", 0);
  ASSIGN_OR_RETURN(const NcclFunctions functions, LoadNcclFunctions());
  return std::make_unique<Session>(std::move(options), functions);
}

}  // namespace unipool
