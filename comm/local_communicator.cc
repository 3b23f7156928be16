#include "comm/local_communicator.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>

#include "comm/host_communicator.h"
#include "comm/rank_order_reduce.h"

namespace unipool {
namespace {

void CopyBytes(const void* from, int64_t bytes, void* to) {
  if (bytes > 0 && from != to) std::memcpy(to, from, static_cast<size_t>(bytes));
}

class OperationTable;

// What a rank publishes to the other ranks for the duration of one operation. Pointers are
// borrowed.
struct Post {
  const char* call_name = nullptr;
  char* data = nullptr;
  int64_t elements = 0;
  const int64_t* send_rows = nullptr;
  int color = 0;
  std::shared_ptr<OperationTable> new_table = nullptr;
};

// Synchronizes the ranks of a group before and after they read each other's memory. Operation n
// uses slot n modulo kSlots until all ranks have finished it, so operations that are pending on
// different streams do not mix.
class OperationTable {
 public:
  explicit OperationTable(int size) : size_(size) {
    for (uint64_t p = 0; p < kSlots; ++p) {
      slots_[p] = Slot{.number = p,
                       .posts = std::vector<Post>(size),
                       .arrived = Flags(size),
                       .finished = Flags(size)};
    }
  }

  // Publishes `post` until Finish and waits until all ranks have published theirs. Returns the
  // posts of all ranks, or null after the deadline, with the missing ranks.
  Post* Publish(uint64_t number, int rank, Post post, absl::Duration deadline,
                MissingRanks* missing) {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[number % kSlots];
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(deadline);
    if (!changed_.wait_until(lock, until, [&] { return slot.number == number; })) {
      *missing = Unset(slot.finished);
      return nullptr;
    }
    slot.posts[rank] = std::move(post);
    slot.arrived[rank] = true;
    if (++slot.num_arrived == size_) changed_.notify_all();
    if (!changed_.wait_until(lock, until, [&] { return slot.num_arrived == size_; })) {
      *missing = Unset(slot.arrived);
      return nullptr;
    }
    return slot.posts.data();
  }

  // Waits until all ranks have finished, after which no rank reads this rank's memory. Returns
  // false after the deadline, with the missing ranks.
  bool Finish(uint64_t number, int rank, absl::Duration deadline, MissingRanks* missing) {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[number % kSlots];
    slot.finished[rank] = true;
    if (++slot.num_finished == size_) {
      Clear(slot);
      return true;
    }
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(deadline);
    if (changed_.wait_until(lock, until, [&] { return slot.number != number; })) return true;
    *missing = Unset(slot.finished);
    return false;
  }

 private:
  static constexpr uint64_t kSlots = 8;
  using Flags = std::vector<char>;
  struct Slot {
    uint64_t number = 0;  // of the operation that uses the slot
    std::vector<Post> posts;
    Flags arrived, finished;
    int num_arrived = 0, num_finished = 0;
  };

  void Clear(Slot& slot) {
    slot.number += kSlots;
    slot.num_arrived = slot.num_finished = 0;
    std::fill(slot.arrived.begin(), slot.arrived.end(), false);
    std::fill(slot.finished.begin(), slot.finished.end(), false);
    changed_.notify_all();
  }

  static MissingRanks Unset(const Flags& flags) {
    MissingRanks ranks;
    for (size_t r = 0; r < flags.size(); ++r) {
      if (!flags[r]) ranks.Add(static_cast<int>(r));
    }
    return ranks;
  }

  const int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Slot, kSlots> slots_;
};

class LocalCommunicator : public HostCommunicator {
 public:
  // The ranks share the table; the last one to be destroyed frees it.
  LocalCommunicator(std::string name, int rank, int size, Shared shared,
                    std::shared_ptr<OperationTable> table)
      : HostCommunicator(std::move(name), rank, size, shared), table_(std::move(table)) {}

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
  Post* Publish(Call call, Post post);
  void Finish(Call call);

  const std::shared_ptr<OperationTable> table_;
};

// Scratch for pointers into the tensors of all ranks: one list per thread, which only grows.
absl::Span<void*> Pointers(int size) {
  thread_local std::vector<void*> pointers;
  if (static_cast<int>(pointers.size()) < size) pointers.resize(size);
  return absl::MakeSpan(pointers.data(), size);
}

Post* LocalCommunicator::Publish(Call call, Post post) {
  post.call_name = call.name;
  MissingRanks missing;
  Post* posts = table_->Publish(call.number, rank(), std::move(post), deadline(), &missing);
  if (posts == nullptr) LOG(FATAL) << TimeoutMessage(call, missing);
  for (int r = 0; r < size(); ++r) {
    CHECK_STREQ(posts[r].call_name, call.name)
        << ": rank " << r << " and rank " << rank() << " call different operations as #"
        << call.number << " of group '" << name() << "'; all ranks must make the same calls";
  }
  return posts;
}

void LocalCommunicator::Finish(Call call) {
  MissingRanks missing;
  if (!table_->Finish(call.number, rank(), deadline(), &missing)) {
    LOG(FATAL) << TimeoutMessage(call, missing);
  }
}

// Rank r reduces part r of the x of all ranks and writes the result to all of them. Each part is
// touched by one rank only, so the ranks need not synchronize in between.
void LocalCommunicator::DoAllReduce(Call call, const Tensor& x, ReduceOp op) {
  const Post* posts =
      Publish(call, Post{.data = static_cast<char*>(x.data), .elements = x.numel()});
  const int64_t begin = PartBegin(x.numel(), size(), rank());
  const int64_t end = PartBegin(x.numel(), size(), rank() + 1);
  const absl::Span<void*> parts = Pointers(size());
  for (int r = 0; r < size(); ++r) {
    CHECK_EQ(posts[r].elements, x.numel()) << "of rank " << r;
    parts[r] = posts[r].data + begin * static_cast<int64_t>(SizeOf(x.dtype));
  }
  Reduce(
      {.dtype = x.dtype, .op = op, .numel = end - begin, .contributions = parts, .outputs = parts});
  Finish(call);
}

void LocalCommunicator::DoReduceScatter(Call call, const Tensor& input, const Tensor& output) {
  const Post* posts =
      Publish(call, Post{.data = static_cast<char*>(input.data), .elements = input.numel()});
  const absl::Span<void*> parts = Pointers(size());
  for (int r = 0; r < size(); ++r) {
    CHECK_EQ(posts[r].elements, input.numel()) << "of rank " << r;
    parts[r] = posts[r].data + rank() * output.bytes();
  }
  void* const mine = output.data;
  Reduce({.dtype = input.dtype,
          .op = ReduceOp::kSum,
          .numel = output.numel(),
          .contributions = parts,
          .outputs = {&mine, 1}});
  Finish(call);
}

void LocalCommunicator::DoAllGather(Call call, const Tensor& input, const Tensor& output) {
  const Post* posts =
      Publish(call, Post{.data = static_cast<char*>(input.data), .elements = input.numel()});
  for (int r = 0; r < size(); ++r) {
    CHECK_EQ(posts[r].elements, input.numel()) << "of rank " << r;
    CopyBytes(posts[r].data, input.bytes(), static_cast<char*>(output.data) + r * input.bytes());
  }
  Finish(call);
}

void LocalCommunicator::DoAllToAllV(Call call, const Tensor& input, const int64_t* send_rows,
                                    const Tensor& output, const int64_t* recv_rows) {
  const int64_t row_bytes = RowBytes(input);
  const Post* posts = Publish(
      call,
      Post{.data = static_cast<char*>(input.data), .elements = row_bytes, .send_rows = send_rows});
  char* to = static_cast<char*>(output.data);
  for (int r = 0; r < size(); ++r) {
    CHECK_EQ(posts[r].elements, row_bytes) << "bytes of a row of rank " << r;
    CHECK_EQ(posts[r].send_rows[rank()], recv_rows[r]) << "rows from rank " << r;
    int64_t first = 0;
    for (int q = 0; q < rank(); ++q) first += posts[r].send_rows[q];
    CopyBytes(posts[r].data + first * row_bytes, recv_rows[r] * row_bytes, to);
    to += recv_rows[r] * row_bytes;
  }
  Finish(call);
}

void LocalCommunicator::DoBroadcast(Call call, const Tensor& x, int root) {
  const Post* posts =
      Publish(call, Post{.data = static_cast<char*>(x.data), .elements = x.numel()});
  CHECK_EQ(posts[root].elements, x.numel()) << "of rank " << root;
  CopyBytes(posts[root].data, x.bytes(), x.data);
  Finish(call);
}

void LocalCommunicator::DoBarrier(Call call) {
  Publish(call, Post{});
  Finish(call);
}

std::unique_ptr<Communicator> LocalCommunicator::Split(int color, const std::string& group_name) {
  const Call call = NextCall("Split");
  Post* posts = Publish(call, Post{.color = color});
  int new_rank = 0, new_size = 0, leader = -1;
  for (int r = 0; r < size(); ++r) {
    if (posts[r].color != color) continue;
    if (leader < 0) leader = r;
    if (r < rank()) ++new_rank;
    ++new_size;
  }
  auto table = leader == rank() ? std::make_shared<OperationTable>(new_size) : nullptr;
  Finish(call);
  const Call handover = NextCall("Split");
  posts = Publish(handover, Post{.new_table = table});
  table = posts[leader].new_table;
  Finish(handover);
  return std::make_unique<LocalCommunicator>(group_name, new_rank, new_size, shared(),
                                             std::move(table));
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> CreateLocalCommunicators(int size,
                                                                    absl::Duration deadline) {
  auto table = std::make_shared<OperationTable>(size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int r = 0; r < size; ++r) {
    communicators.push_back(std::make_unique<LocalCommunicator>(
        "world", r, size, LocalCommunicator::Shared{.world_rank = r, .deadline = deadline}, table));
  }
  return communicators;
}

}  // namespace unipool
