// A replacement of NCCL for emulated GPUs, between processes or threads of one host: each pair of
// ranks has a Unix socket. Supports non-blocking communicators only. An operation advances in
// ncclCommGetAsyncError and fails with ncclRemoteError if another rank has exited.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_nccl/nccl.h"

namespace {

using Bytes = std::vector<char>;

// The bytes that one rank sends to and receives from each rank, and the function that completes the
// operation with the received bytes.
struct Operation {
  explicit Operation(int ranks) : out(ranks), in(ranks), sent(ranks), received(ranks) {}
  std::vector<Bytes> out, in;
  std::vector<size_t> sent, received;
  std::function<ncclResult_t(const std::vector<Bytes>& in)> finish;
};

Bytes FromGpu(const void* data, size_t bytes) {
  Bytes copy(bytes);
  cudaMemcpy(copy.data(), data, bytes, cudaMemcpyDeviceToHost);
  return copy;
}
void ToGpu(const Bytes& bytes, void* data) {
  cudaMemcpy(data, bytes.data(), bytes.size(), cudaMemcpyHostToDevice);
}

size_t SizeOf(ncclDataType_t type) {
  if (type == ncclInt8) return 1;
  if (type == ncclBfloat16) return 2;
  return type == ncclInt64 || type == ncclFloat64 ? 8 : 4;
}

template <typename T>
void ReduceAs(const Bytes& from, ncclRedOp_t op, Bytes* to) {
  const T* x = reinterpret_cast<const T*>(from.data());
  T* y = reinterpret_cast<T*>(to->data());
  for (size_t i = 0; i < from.size() / sizeof(T); ++i) {
    y[i] = op == ncclSum ? y[i] + x[i] : std::max(y[i], x[i]);
  }
}

// Reduces the contributions of all ranks, in rank order.
Bytes Reduce(const std::vector<Bytes>& all, ncclDataType_t type, ncclRedOp_t op) {
  Bytes result = all[0];
  for (size_t r = 1; r < all.size(); ++r) {
    if (type == ncclFloat32) ReduceAs<float>(all[r], op, &result);
    if (type == ncclFloat64) ReduceAs<double>(all[r], op, &result);
    if (type == ncclInt32) ReduceAs<int32_t>(all[r], op, &result);
    if (type == ncclInt64) ReduceAs<int64_t>(all[r], op, &result);
  }
  return result;
}

sockaddr_un Address(const std::string& name, int rank, socklen_t* size) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // The abstract namespace: the leading zero is part of the name.
  const int length = std::snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
                                   "fake_nccl-%s-%d", name.c_str(), rank);
  *size =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path)) + 1 + static_cast<socklen_t>(length);
  return address;
}

int NewSocket() { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

}  // namespace

struct ncclComm {
  ncclComm(std::string its_name, int its_rank, int its_size, int its_device);
  ~ncclComm() { Close(); }

  // Begins a collective operation, whose vectors have an entry for each rank.
  ncclResult_t Start(Operation operation);
  // Advances the pending operation as far as the sockets allow.
  void Progress();
  void Close();

  std::mutex mutex;
  const std::string name;
  const int rank, size, device;
  ncclResult_t state = ncclInProgress;
  const char* error = "";
  int splits = 0;
  bool is_final = false;

 private:
  void Connect();
  void Transfer(int peer);
  bool IsTransferred(int peer) const {
    return operation_.sent[peer] == operation_.out[peer].size() &&
           operation_.received[peer] == operation_.in[peer].size();
  }
  void CompareDevices();
  void Begin(Operation operation);

  int listener_ = -1;
  std::vector<int> sockets_;
  bool is_connected_ = false, is_pending_ = false, is_closed_ = false;
  Operation operation_;
};

ncclComm::ncclComm(std::string its_name, int its_rank, int its_size, int its_device)
    : name(std::move(its_name)),
      rank(its_rank),
      size(its_size),
      device(its_device),
      sockets_(its_size, -1),
      operation_(its_size) {
  socklen_t bytes = 0;
  const sockaddr_un address = Address(name, rank, &bytes);
  listener_ = NewSocket();
  if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), bytes) != 0 ||
      listen(listener_, size) != 0) {
    state = ncclSystemError;
  }
}

void ncclComm::Close() {
  is_closed_ = true;
  for (int& socket : sockets_) {
    if (socket >= 0) close(std::exchange(socket, -1));
  }
  if (listener_ >= 0) close(std::exchange(listener_, -1));
}

// Each rank connects to the lower ranks and sends them its rank.
void ncclComm::Connect() {
  for (int peer = 0; peer < rank; ++peer) {
    if (sockets_[peer] >= 0) continue;
    socklen_t bytes = 0;
    const sockaddr_un address = Address(name, peer, &bytes);
    const int socket = NewSocket();
    if (connect(socket, reinterpret_cast<const sockaddr*>(&address), bytes) != 0) {
      close(socket);
      return;
    }
    send(socket, &rank, sizeof(rank), MSG_NOSIGNAL);
    sockets_[peer] = socket;
  }
  while (std::find(sockets_.begin() + rank + 1, sockets_.end(), -1) != sockets_.end()) {
    const int socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) return;
    int peer = 0;
    if (recv(socket, &peer, sizeof(peer), MSG_WAITALL) != sizeof(peer)) return;
    fcntl(socket, F_SETFL, O_NONBLOCK);
    sockets_[peer] = socket;
  }
  is_connected_ = true;
  CompareDevices();
}

void ncclComm::CompareDevices() {
  Operation devices(size);
  for (int r = 0; r < size; ++r) {
    devices.out[r].assign(reinterpret_cast<const char*>(&device),
                          reinterpret_cast<const char*>(&device) + sizeof(device));
    devices.in[r].resize(sizeof(device));
  }
  devices.finish = [this](const std::vector<Bytes>& in) {
    for (int r = 0; r < size; ++r) {
      if (r == rank || std::memcmp(in[r].data(), &device, sizeof(device)) != 0) continue;
      error = "Duplicate GPU detected";
      return ncclInvalidUsage;
    }
    return ncclSuccess;
  };
  Begin(std::move(devices));
}

void ncclComm::Begin(Operation operation) {
  operation_ = std::move(operation);
  operation_.in[rank] = operation_.out[rank];
  is_pending_ = true;
}

ncclResult_t ncclComm::Start(Operation operation) {
  const std::lock_guard lock(mutex);
  if (state != ncclSuccess || is_pending_) return state == ncclSuccess ? ncclInvalidUsage : state;
  Begin(std::move(operation));
  return state = ncclInProgress;
}

void ncclComm::Transfer(int peer) {
  size_t& sent = operation_.sent[peer];
  size_t& received = operation_.received[peer];
  const Bytes& out = operation_.out[peer];
  Bytes& in = operation_.in[peer];
  while (sent < out.size()) {
    const ssize_t n = send(sockets_[peer], out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) state = ncclRemoteError;
    if (n <= 0) break;
    sent += static_cast<size_t>(n);
  }
  while (received < in.size()) {
    const ssize_t n = recv(sockets_[peer], in.data() + received, in.size() - received, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) state = ncclRemoteError;
    if (n <= 0) break;
    received += static_cast<size_t>(n);
  }
}

void ncclComm::Progress() {
  if (is_closed_ || is_final || (state != ncclSuccess && state != ncclInProgress)) return;
  if (!is_connected_) Connect();
  if (!is_connected_) return;
  bool done = true;
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) continue;
    if (is_pending_) {
      Transfer(peer);
      done = done && IsTransferred(peer);
    } else if (char next; recv(sockets_[peer], &next, 1, MSG_PEEK) == 0) {
      state = ncclRemoteError;
    }
  }
  if (!is_pending_ || !done || state != ncclInProgress) return;
  is_pending_ = false;
  state = operation_.finish(operation_.in);
}

namespace {

using Ins = std::vector<Bytes>;

// An operation in which a rank sends the same bytes to all ranks.
template <typename Finish>
ncclResult_t Share(ncclComm_t comm, const Bytes& mine, Finish finish) {
  Operation operation(comm->size);
  for (int r = 0; r < comm->size; ++r) {
    operation.out[r] = mine;
    operation.in[r].resize(mine.size());
  }
  operation.finish = std::move(finish);
  return comm->Start(std::move(operation));
}

// The sends and receives of this thread's group; ncclGroupEnd starts them.
struct Group {
  struct Part {
    int peer;
    Bytes sent;
    void* receive;
    size_t bytes;
  };
  int depth = 0;
  ncclComm_t comm = nullptr;
  std::vector<Part> parts;
};
thread_local Group group;

ncclResult_t AddToGroup(ncclComm_t comm, Group::Part part) {
  if (group.depth == 0 || (group.comm != nullptr && group.comm != comm)) return ncclInvalidUsage;
  group.comm = comm;
  group.parts.push_back(std::move(part));
  return ncclSuccess;
}

}  // namespace

ncclResult_t ncclGetVersion(int* version) {
  const char* const text = std::getenv("FAKE_NCCL_VERSION");
  *version = text != nullptr ? std::atoi(text) : NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  uint64_t random = 0;
  const int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  const bool is_read = read(file, &random, sizeof(random)) == sizeof(random);
  close(file);
  std::memset(id, 0, sizeof(*id));
  std::snprintf(id->internal, sizeof(id->internal), "%016llx",
                static_cast<unsigned long long>(random));
  return is_read ? ncclSuccess : ncclSystemError;
}

const char* ncclGetErrorString(ncclResult_t result) {
  if (result == ncclRemoteError) return "remote process exited or there was a network error";
  return result == ncclInvalidUsage ? "invalid usage" : "unhandled error";
}

const char* ncclGetLastError(ncclComm_t comm) { return comm != nullptr ? comm->error : ""; }

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;
  int device = 0;
  cudaGetDevice(&device);
  *comm = new ncclComm(id.internal, rank, ranks, device);
  return (*comm)->state;
}

// The new communicator exists when the colors of all ranks have arrived.
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t*) {
  const int mine[2] = {color, key};
  const auto* bytes = reinterpret_cast<const char*>(mine);
  const std::string name =
      comm->name + "." + std::to_string(comm->splits++) + "." + std::to_string(color);
  return Share(comm, Bytes(bytes, bytes + sizeof(mine)), [=](const Ins& in) {
    int rank = 0, size = 0;
    for (int r = 0; r < comm->size; ++r) {
      int theirs[2];
      std::memcpy(theirs, in[r].data(), sizeof(theirs));
      if (theirs[0] != color) continue;
      ++size;
      if (std::pair(theirs[1], r) < std::pair(key, comm->rank)) ++rank;
    }
    *part = new ncclComm(name, rank, size, comm->device);
    return ncclSuccess;
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return Share(comm, Bytes(1), [=](const Ins&) {
    comm->is_final = true;
    return ncclSuccess;
  });
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}

// Keeps the object, since other threads may still call ncclCommGetAsyncError on it.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const std::lock_guard lock(comm->mutex);
  comm->Close();
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  const std::lock_guard lock(comm->mutex);
  comm->Progress();
  *state = comm->state;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t) {
  return Share(comm, FromGpu(send, count * SizeOf(type)), [=](const Ins& in) {
    ToGpu(Reduce(in, type, op), receive);
    return ncclSuccess;
  });
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t) {
  const size_t bytes = count * SizeOf(type);
  Operation operation(comm->size);
  for (int r = 0; r < comm->size; ++r) {
    operation.out[r] = FromGpu(static_cast<const char*>(send) + r * bytes, bytes);
    operation.in[r].resize(bytes);
  }
  operation.finish = [=](const Ins& in) {
    ToGpu(Reduce(in, type, op), receive);
    return ncclSuccess;
  };
  return comm->Start(std::move(operation));
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t) {
  return Share(comm, FromGpu(send, count * SizeOf(type)), [=](const Ins& in) {
    char* to = static_cast<char*>(receive);
    for (const Bytes& bytes : in) {
      ToGpu(bytes, to);
      to += bytes.size();
    }
    return ncclSuccess;
  });
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t) {
  Operation operation(comm->size);
  if (comm->rank == root) {
    std::fill(operation.out.begin(), operation.out.end(), FromGpu(send, count * SizeOf(type)));
  } else {
    operation.in[root].resize(count * SizeOf(type));
  }
  operation.finish = [=](const Ins& in) {
    ToGpu(in[root], receive);
    return ncclSuccess;
  };
  return comm->Start(std::move(operation));
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t) {
  return AddToGroup(comm, {peer, FromGpu(send, count * SizeOf(type)), nullptr, 0});
}

ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t) {
  return AddToGroup(comm, {peer, {}, receive, count * SizeOf(type)});
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group.depth > 0 || group.parts.empty()) return ncclSuccess;
  const ncclComm_t comm = std::exchange(group.comm, nullptr);
  const std::vector<Group::Part> parts = std::exchange(group.parts, {});
  Operation operation(comm->size);
  for (const Group::Part& part : parts) {
    Bytes& out = operation.out[part.peer];
    out.insert(out.end(), part.sent.begin(), part.sent.end());
    operation.in[part.peer].resize(operation.in[part.peer].size() + part.bytes);
  }
  operation.finish = [parts](const Ins& in) {
    std::vector<size_t> consumed(in.size());
    for (const Group::Part& part : parts) {
      const auto from = in[part.peer].begin() + static_cast<ptrdiff_t>(consumed[part.peer]);
      if (part.bytes > 0) {
        ToGpu(Bytes(from, from + static_cast<ptrdiff_t>(part.bytes)), part.receive);
      }
      consumed[part.peer] += part.bytes;
    }
    return ncclSuccess;
  };
  return comm->Start(std::move(operation));
}
