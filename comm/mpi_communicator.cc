#include "comm/mpi_communicator.h"

#include <glog/logging.h>
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "comm/host_communicator.h"
#include "comm/rank_order_reduce.h"
#include "runtime/stream.h"

// Data moves by MPI_Isend, MPI_Irecv and MPI_Testall only. On shared memory (2 and 4 ranks, 4 KB to
// 16 MB) this is as fast as the library's collectives that only move data, and up to five times
// faster than those that reduce. A warm call allocates nothing, a timeout can name the missing
// rank, tags separate operations on different streams, and reductions are in rank order.
namespace unipool {
namespace {

[[noreturn]] void MpiFail(const char* expression, int line, int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0, rank = -1;
  MPI_Error_string(code, text, &length);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  google::LogMessageFatal(__FILE__, line).stream()
      << expression << " failed on rank " << rank << ": " << text;
  std::abort();
}

#define MPI_CHECK(expression)                                              \
  do {                                                                     \
    const int mpi_code = (expression);                                     \
    if (mpi_code != MPI_SUCCESS) MpiFail(#expression, __LINE__, mpi_code); \
  } while (false)

// GNU attribute as in glog's declaration: for clang, [[noreturn]] is not part of a function's type.
__attribute__((noreturn)) void AbortAllRanks() { AbortMpi(128 + SIGABRT); }
__attribute__((noreturn)) void AbortThisRank() { std::abort(); }

// MPI exists once per process, hence a global: InitializeMpi writes it, later calls only read it.
LocalRank local_rank_of_process = {0, 1};

// Messages of one operation that are pending at the same time. Reuses its memory.
class Messages {
 public:
  // Starts operation `number`. The messages of the operation before must have been waited for.
  void Open(MPI_Comm comm, uint64_t number) {
    CHECK(requests_.empty());
    comm_ = comm;
    tag_ = static_cast<int>(number % 32768);  // 32767 is the largest tag that MPI guarantees
  }

  void Send(const void* data, int64_t bytes, int to) {
    const char* from = static_cast<const char*>(data);
    for (; bytes > 0; from += kMaxBytes, bytes -= kMaxBytes) {
      const int count = static_cast<int>(std::min(bytes, kMaxBytes));
      MPI_CHECK(MPI_Isend(from, count, MPI_BYTE, to, tag_, comm_, Add(to)));
    }
  }

  void Receive(void* data, int64_t bytes, int from) {
    char* to = static_cast<char*>(data);
    for (; bytes > 0; to += kMaxBytes, bytes -= kMaxBytes) {
      const int count = static_cast<int>(std::min(bytes, kMaxBytes));
      MPI_CHECK(MPI_Irecv(to, count, MPI_BYTE, from, tag_, comm_, Add(from)));
    }
  }

  // Waits for all messages. Returns false after the deadline; UnfinishedPeers then names the ranks.
  // Calls on_slow() four times a second during a long wait.
  template <typename OnSlow>
  bool Wait(absl::Duration deadline, OnSlow on_slow) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::milliseconds kSlow(250);
    const auto until = Clock::now() + absl::ToChronoNanoseconds(deadline);
    auto slow = Clock::now() + kSlow;
    // A yield costs microseconds even if no other thread wants the core, hence 64 tests per yield.
    // A side thread sleeps instead: after a yield to compute threads, it would get the core back
    // milliseconds later, but after a sleep the scheduler runs it immediately.
    const bool on_side_thread = OnSideThread();
    const int tests_per_pause = on_side_thread ? 1 : 64;
    constexpr std::chrono::microseconds kSleep(20);
    for (int tests = 1; !TestAll(); ++tests) {
      if (tests % tests_per_pause != 0) continue;
      const auto now = Clock::now();
      if (now > until) return false;
      if (now > slow) {
        on_slow();
        slow = now + kSlow;
      }
      if (on_side_thread) {
        std::this_thread::sleep_for(kSleep);
      } else {
        sched_yield();
      }
    }
    requests_.clear();
    peers_.clear();
    return true;
  }

  // Peers with pending messages, translated by `names` from ranks of the group to ranks of the
  // world.
  MissingRanks UnfinishedPeers(const std::vector<int>& names) {
    MissingRanks missing;
    for (size_t i = 0; i < requests_.size(); ++i) {
      int done = 0;
      MPI_CHECK(MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE));
      if (!done) missing.Add(names[peers_[i]]);
    }
    return missing;
  }

 private:
  static constexpr int64_t kMaxBytes = int64_t{1}
                                       << 30;  // of one message, because MPI counts are int

  MPI_Request* Add(int peer) {
    peers_.push_back(peer);
    return &requests_.emplace_back(MPI_REQUEST_NULL);
  }

  bool TestAll() {
    int done = 0;
    MPI_CHECK(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done,
                          MPI_STATUSES_IGNORE));
    return done != 0;
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int tag_ = 0;
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_;
};

// Memory that operations need besides their tensors: one object per thread, which only grows.
struct Scratch {
  Messages messages[2];
  std::vector<char> bytes;
  std::vector<const void*> contributions;
};

Scratch& ThreadScratch(int64_t bytes, int ranks) {
  thread_local Scratch scratch;
  if (static_cast<int64_t>(scratch.bytes.size()) < bytes) scratch.bytes.resize(bytes);
  if (static_cast<int>(scratch.contributions.size()) < ranks) scratch.contributions.resize(ranks);
  return scratch;
}

// World ranks of the members of a group, by rank in the group.
std::vector<int> WorldRanks(MPI_Comm comm) {
  MPI_Group group = MPI_GROUP_NULL, world = MPI_GROUP_NULL;
  MPI_CHECK(MPI_Comm_group(comm, &group));
  MPI_CHECK(MPI_Comm_group(MPI_COMM_WORLD, &world));
  int size = 0;
  MPI_CHECK(MPI_Group_size(group, &size));
  std::vector<int> ranks(size), world_ranks(size);
  std::iota(ranks.begin(), ranks.end(), 0);
  MPI_CHECK(MPI_Group_translate_ranks(group, size, ranks.data(), world, world_ranks.data()));
  MPI_CHECK(MPI_Group_free(&group));
  MPI_CHECK(MPI_Group_free(&world));
  return world_ranks;
}

char* Bytes(const Tensor& tensor) { return static_cast<char*>(tensor.data); }

void CopyBytes(const void* from, int64_t bytes, void* to) {
  if (bytes > 0 && from != to) std::memcpy(to, from, static_cast<size_t>(bytes));
}

class MpiCommunicator : public HostCommunicator {
 public:
  // Takes `comm` over.
  static std::unique_ptr<Communicator> Adopt(MPI_Comm comm, const std::string& name, Shared shared);
  ~MpiCommunicator() override;

  std::unique_ptr<Communicator> Split(int color, const std::string& group_name) override;

 protected:
  void DoAllReduce(Call call, const Tensor& x, ReduceOp op) override;
  void DoReduceScatter(Call call, const Tensor& input, const Tensor& output) override;
  void DoAllGather(Call call, const Tensor& input, const Tensor& output) override;
  void DoAllToAllV(Call call, const Tensor& input, const int64_t* send_rows, const Tensor& output,
                   const int64_t* recv_rows) override;
  void DoBroadcast(Call call, const Tensor& x, int root) override;
  void DoBarrier(Call call) override;

 private:
  // Elements [begin, end) of a tensor in one round of a reduction.
  struct Range {
    int64_t begin, end;
  };
  struct Rounds {
    const Tensor& input;
    int64_t element_bytes;
    int64_t chunk;  // elements of each part in one round
    char* slots;    // [2, ranks, chunk]: receive buffers for this rank's part, by round parity
  };

  MpiCommunicator(MPI_Comm comm, const std::string& name, int rank, int size, Shared shared)
      : HostCommunicator(name, rank, size, shared), comm_(comm), world_ranks_(WorldRanks(comm)) {}

  // The i-th rank after this one and the i-th before it, so that no two ranks start with the same
  // peer.
  int After(int i) const { return (rank() + i) % size(); }
  int Before(int i) const { return (rank() - i + size()) % size(); }
  void Wait(Call call, Messages& messages);
  void ReduceWhole(Call call, const Tensor& x, ReduceOp op);
  void ReduceMyPart(Call call, const Tensor& input, ReduceOp op, char* output);
  Range ChunkOf(const Rounds& rounds, int part, int64_t round) const;
  void* SlotOf(const Rounds& rounds, int source, int64_t round) const;
  void PostRound(const Rounds& rounds, int64_t round, Messages& messages) const;
  void GatherParts(Call call, const Tensor& x);

  MPI_Comm comm_;
  const std::vector<int> world_ranks_;  // by rank of this group
};

std::unique_ptr<Communicator> MpiCommunicator::Adopt(MPI_Comm comm, const std::string& name,
                                                     Shared shared) {
  MPI_CHECK(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN));
  int rank = 0, size = 0;
  MPI_CHECK(MPI_Comm_rank(comm, &rank));
  MPI_CHECK(MPI_Comm_size(comm, &size));
  return std::unique_ptr<Communicator>(new MpiCommunicator(comm, name, rank, size, shared));
}

MpiCommunicator::~MpiCommunicator() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized) MPI_Comm_free(&comm_);
}

std::unique_ptr<Communicator> MpiCommunicator::Split(int color, const std::string& group_name) {
  // MPI_Comm_split has no deadline, so a barrier with one comes first.
  Barrier();
  MPI_Comm part = MPI_COMM_NULL;
  MPI_CHECK(MPI_Comm_split(comm_, color, rank(), &part));
  return Adopt(part, group_name, shared());
}

void MpiCommunicator::Wait(Call call, Messages& messages) {
  const auto on_slow = [&] { SetMissing(call, messages.UnfinishedPeers(world_ranks_)); };
  if (messages.Wait(deadline(), on_slow)) return;
  LOG(FATAL) << TimeoutMessage(call, messages.UnfinishedPeers(world_ranks_));
}

void MpiCommunicator::DoAllReduce(Call call, const Tensor& x, ReduceOp op) {
  // Up to this size, one exchange of whole tensors is faster than two exchanges of parts.
  constexpr int64_t kMaxWholeBytes = 16384;
  if (x.bytes() <= kMaxWholeBytes) return ReduceWhole(call, x, op);
  const int64_t begin = PartBegin(x.numel(), size(), rank());
  ReduceMyPart(call, x, op, Bytes(x) + begin * static_cast<int64_t>(SizeOf(x.dtype)));
  GatherParts(call, x);
}

void MpiCommunicator::ReduceWhole(Call call, const Tensor& x, ReduceOp op) {
  const int64_t bytes = x.bytes();
  Scratch& scratch = ThreadScratch(bytes * size(), size());
  Messages& messages = scratch.messages[0];
  messages.Open(comm_, call.number);
  for (int i = 1; i < size(); ++i) {
    messages.Receive(scratch.bytes.data() + bytes * Before(i), bytes, Before(i));
  }
  for (int i = 1; i < size(); ++i) messages.Send(x.data, bytes, After(i));
  Wait(call, messages);
  for (int r = 0; r < size(); ++r) {
    scratch.contributions[r] = r == rank() ? Bytes(x) : scratch.bytes.data() + bytes * r;
  }
  Reduce({.dtype = x.dtype,
          .op = op,
          .numel = x.numel(),
          .contributions = absl::MakeSpan(scratch.contributions.data(), size()),
          .outputs = {&x.data, 1}});
}

void MpiCommunicator::DoReduceScatter(Call call, const Tensor& input, const Tensor& output) {
  ReduceMyPart(call, input, ReduceOp::kSum, Bytes(output));
}

// Works in rounds, so that scratch stays small and received data are reduced while they are in the
// cache. The messages of the next round are pending during the reduction of this one.
void MpiCommunicator::ReduceMyPart(Call call, const Tensor& input, ReduceOp op, char* output) {
  constexpr int64_t kChunkBytes = 1 << 18;
  const int64_t element_bytes = static_cast<int64_t>(SizeOf(input.dtype));
  const int64_t chunk = kChunkBytes / element_bytes;
  Scratch& scratch = ThreadScratch(2 * size() * kChunkBytes, size());
  const Rounds rounds{input, element_bytes, chunk, scratch.bytes.data()};
  const int64_t num_rounds = (PartBegin(input.numel(), size(), 1) + chunk - 1) / chunk;
  for (int64_t round = -1; round < num_rounds; ++round) {
    if (round + 1 < num_rounds) {
      Messages& next = scratch.messages[(round + 1) % 2];
      next.Open(comm_, call.number);
      PostRound(rounds, round + 1, next);
    }
    if (round < 0) continue;
    Wait(call, scratch.messages[round % 2]);
    const Range mine = ChunkOf(rounds, rank(), round);
    for (int r = 0; r < size(); ++r) {
      scratch.contributions[r] =
          r == rank() ? Bytes(input) + mine.begin * element_bytes : SlotOf(rounds, r, round);
    }
    void* const to = output + round * kChunkBytes;
    Reduce({.dtype = input.dtype,
            .op = op,
            .numel = mine.end - mine.begin,
            .contributions = absl::MakeSpan(scratch.contributions.data(), size()),
            .outputs = {&to, 1}});
  }
}

MpiCommunicator::Range MpiCommunicator::ChunkOf(const Rounds& rounds, int part,
                                                int64_t round) const {
  const int64_t begin = PartBegin(rounds.input.numel(), size(), part) + round * rounds.chunk;
  const int64_t end = PartBegin(rounds.input.numel(), size(), part + 1);
  return {std::min(begin, end), std::min(begin + rounds.chunk, end)};
}

void* MpiCommunicator::SlotOf(const Rounds& rounds, int source, int64_t round) const {
  const int64_t slot = round % 2 * size() + source;
  return rounds.slots + slot * rounds.chunk * rounds.element_bytes;
}

void MpiCommunicator::PostRound(const Rounds& rounds, int64_t round, Messages& messages) const {
  const Range mine = ChunkOf(rounds, rank(), round);
  for (int i = 1; i < size(); ++i) {
    messages.Receive(SlotOf(rounds, Before(i), round),
                     (mine.end - mine.begin) * rounds.element_bytes, Before(i));
  }
  for (int i = 1; i < size(); ++i) {
    const Range theirs = ChunkOf(rounds, After(i), round);
    messages.Send(Bytes(rounds.input) + theirs.begin * rounds.element_bytes,
                  (theirs.end - theirs.begin) * rounds.element_bytes, After(i));
  }
}

// Sends this rank's part of x to all ranks and receives theirs.
void MpiCommunicator::GatherParts(Call call, const Tensor& x) {
  const int64_t element_bytes = static_cast<int64_t>(SizeOf(x.dtype));
  const auto first_byte = [&](int r) { return PartBegin(x.numel(), size(), r) * element_bytes; };
  Messages& messages = ThreadScratch(0, 0).messages[0];
  messages.Open(comm_, call.number);
  for (int i = 1; i < size(); ++i) {
    const int64_t begin = first_byte(Before(i)), end = first_byte(Before(i) + 1);
    messages.Receive(Bytes(x) + begin, end - begin, Before(i));
  }
  const int64_t begin = first_byte(rank()), end = first_byte(rank() + 1);
  for (int i = 1; i < size(); ++i) messages.Send(Bytes(x) + begin, end - begin, After(i));
  Wait(call, messages);
}

void MpiCommunicator::DoAllGather(Call call, const Tensor& input, const Tensor& output) {
  CopyBytes(input.data, input.bytes(), Bytes(output) + rank() * input.bytes());
  GatherParts(call, output);
}

void MpiCommunicator::DoAllToAllV(Call call, const Tensor& input, const int64_t* send_rows,
                                  const Tensor& output, const int64_t* recv_rows) {
  const int64_t row_bytes = RowBytes(input);
  Messages& messages = ThreadScratch(0, 0).messages[0];
  messages.Open(comm_, call.number);
  const auto rows_before = [](const int64_t* rows, int r) {
    int64_t sum = 0;
    for (int q = 0; q < r; ++q) sum += rows[q];
    return sum;
  };
  for (int i = 1; i < size(); ++i) {
    const int source = Before(i);
    messages.Receive(Bytes(output) + rows_before(recv_rows, source) * row_bytes,
                     recv_rows[source] * row_bytes, source);
  }
  for (int i = 1; i < size(); ++i) {
    const int to = After(i);
    messages.Send(Bytes(input) + rows_before(send_rows, to) * row_bytes, send_rows[to] * row_bytes,
                  to);
  }
  CHECK_EQ(send_rows[rank()], recv_rows[rank()]);
  CopyBytes(Bytes(input) + rows_before(send_rows, rank()) * row_bytes,
            send_rows[rank()] * row_bytes,
            Bytes(output) + rows_before(recv_rows, rank()) * row_bytes);
  Wait(call, messages);
}

// The root sends each rank one part, and then all ranks exchange parts. The root's link carries the
// tensor twice, instead of once for each rank.
void MpiCommunicator::DoBroadcast(Call call, const Tensor& x, int root) {
  const int64_t element_bytes = static_cast<int64_t>(SizeOf(x.dtype));
  const auto first_byte = [&](int r) { return PartBegin(x.numel(), size(), r) * element_bytes; };
  Messages& messages = ThreadScratch(0, 0).messages[0];
  messages.Open(comm_, call.number);
  for (int r = 0; rank() == root && r < size(); ++r) {
    if (r != root) messages.Send(Bytes(x) + first_byte(r), first_byte(r + 1) - first_byte(r), r);
  }
  if (rank() != root) {
    const int64_t begin = first_byte(rank());
    messages.Receive(Bytes(x) + begin, first_byte(rank() + 1) - begin, root);
  }
  Wait(call, messages);
  GatherParts(call, x);
}

// Every rank sends to every other one, so that a timeout can name the missing rank.
void MpiCommunicator::DoBarrier(Call call) {
  Scratch& scratch = ThreadScratch(size(), 0);
  Messages& messages = scratch.messages[0];
  messages.Open(comm_, call.number);
  for (int i = 1; i < size(); ++i) {
    messages.Receive(scratch.bytes.data() + Before(i), 1, Before(i));
  }
  const char token = 0;
  for (int i = 1; i < size(); ++i) messages.Send(&token, 1, After(i));
  Wait(call, messages);
}

}  // namespace

bool LaunchedByMpi() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE"}) {
    if (std::getenv(variable) != nullptr) return true;
  }
  return false;
}

LibraryVersion MpiVersion() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  const absl::string_view whole(text, length);
  // Open MPI reports "Open MPI v4.1.4, package: ..., ident: ..."; the first part is enough.
  return {.built = absl::StrCat("Open MPI ", OMPI_MAJOR_VERSION, ".", OMPI_MINOR_VERSION, ".",
                                OMPI_RELEASE_VERSION),
          .found = std::string(whole.substr(0, whole.find(',')))};
}

void InitializeMpi() {
  int provided = MPI_THREAD_SINGLE;
  MPI_CHECK(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided));
  CHECK_EQ(provided, MPI_THREAD_MULTIPLE)
      << "this MPI library lacks MPI_THREAD_MULTIPLE; use Open MPI 4 built with thread support";
  google::InstallFailureFunction(&AbortAllRanks);
  MPI_Comm host = MPI_COMM_NULL;
  MPI_CHECK(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host));
  MPI_CHECK(MPI_Comm_rank(host, &local_rank_of_process.rank));
  MPI_CHECK(MPI_Comm_size(host, &local_rank_of_process.size));
  MPI_CHECK(MPI_Comm_free(&host));
}

void FinalizeMpi() {
  google::InstallFailureFunction(&AbortThisRank);
  MPI_CHECK(MPI_Finalize());
}

void AbortMpi(int exit_code) {
  google::FlushLogFiles(google::INFO);
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::abort();
}

LocalRank MpiLocalRank() { return local_rank_of_process; }

std::unique_ptr<Communicator> CreateMpiWorld(absl::Duration deadline, CallLog* log) {
  MPI_Comm world = MPI_COMM_NULL;
  MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &world));
  int rank = 0;
  MPI_CHECK(MPI_Comm_rank(world, &rank));
  return MpiCommunicator::Adopt(world, "world",
                                {.world_rank = rank, .deadline = deadline, .log = log});
}

}  // namespace unipool
