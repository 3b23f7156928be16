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

class MeetingTable;

// What a rank shows to the others for the time of one operation.
struct Post {
  const char* call_name = nullptr;
  char* data = nullptr;
  int64_t elements = 0;
  const int64_t* send_rows = nullptr;
  int color = 0;
  std::shared_ptr<MeetingTable> new_table = nullptr;
};

// Where the ranks of a group meet, once before and once after they read each other's memory.
// Operation n has meeting n modulo kMeetings until all have left it, so operations that are under
// way on different streams do not mix.
class MeetingTable {
 public:
  explicit MeetingTable(int size) : size_(size) {
    for (uint64_t p = 0; p < kMeetings; ++p) {
      meetings_[p] = Meeting{
          .number = p, .posts = std::vector<Post>(size), .came = Flags(size), .left = Flags(size)};
    }
  }

  // Shows `post` until Leave and waits until everyone has come. Returns everyone's posts, or
  // nothing after the deadline, with the ranks that were missing.
  Post* Meet(uint64_t number, int rank, Post post, absl::Duration deadline, MissingRanks* missing) {
    std::unique_lock lock(mutex_);
    Meeting& meeting = meetings_[number % kMeetings];
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(deadline);
    if (!changed_.wait_until(lock, until, [&] { return meeting.number == number; })) {
      *missing = Unset(meeting.left);
      return nullptr;
    }
    meeting.posts[rank] = std::move(post);
    meeting.came[rank] = true;
    if (++meeting.num_came == size_) changed_.notify_all();
    if (!changed_.wait_until(lock, until, [&] { return meeting.num_came == size_; })) {
      *missing = Unset(meeting.came);
      return nullptr;
    }
    return meeting.posts.data();
  }

  // Waits until everyone is here: then nobody reads my memory any more. False after the deadline.
  bool Leave(uint64_t number, int rank, absl::Duration deadline, MissingRanks* missing) {
    std::unique_lock lock(mutex_);
    Meeting& meeting = meetings_[number % kMeetings];
    meeting.left[rank] = true;
    if (++meeting.num_left == size_) {
      Clear(meeting);
      return true;
    }
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(deadline);
    if (changed_.wait_until(lock, until, [&] { return meeting.number != number; })) return true;
    *missing = Unset(meeting.left);
    return false;
  }

 private:
  static constexpr uint64_t kMeetings = 8;
  using Flags = std::vector<char>;
  struct Meeting {
    uint64_t number = 0;  // of the operation that it serves
    std::vector<Post> posts;
    Flags came, left;
    int num_came = 0, num_left = 0;
  };

  void Clear(Meeting& meeting) {
    meeting.number += kMeetings;
    meeting.num_came = meeting.num_left = 0;
    std::fill(meeting.came.begin(), meeting.came.end(), false);
    std::fill(meeting.left.begin(), meeting.left.end(), false);
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
  std::array<Meeting, kMeetings> meetings_;
};

class LocalCommunicator : public HostCommunicator {
 public:
  // The table is shared: the last rank to go takes it away, and nobody knows who that will be.
  LocalCommunicator(std::string name, int rank, int size, Shared shared,
                    std::shared_ptr<MeetingTable> table)
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
  Post* Meet(Call call, Post post);
  void Leave(Call call);

  const std::shared_ptr<MeetingTable> table_;
};

// Pointers into everyone's tensors; one list for each stream's thread, grown once.
absl::Span<void*> Pointers(int size) {
  thread_local std::vector<void*> pointers;
  if (static_cast<int>(pointers.size()) < size) pointers.resize(size);
  return absl::MakeSpan(pointers.data(), size);
}

Post* LocalCommunicator::Meet(Call call, Post post) {
  post.call_name = call.name;
  MissingRanks missing;
  Post* posts = table_->Meet(call.number, rank(), std::move(post), deadline(), &missing);
  if (posts == nullptr) LOG(FATAL) << LateMessage(call, missing);
  for (int r = 0; r < size(); ++r) {
    CHECK_STREQ(posts[r].call_name, call.name)
        << ": rank " << r << " and rank " << rank() << " in operation #" << call.number
        << " of group '" << name() << "'";
  }
  return posts;
}

void LocalCommunicator::Leave(Call call) {
  MissingRanks missing;
  if (!table_->Leave(call.number, rank(), deadline(), &missing)) {
    LOG(FATAL) << LateMessage(call, missing);
  }
}

// Rank r reduces the r-th part of everyone's x and writes it to all: a part is touched by one rank
// only, so no rank waits for another in between.
void LocalCommunicator::DoAllReduce(Call call, const Tensor& x, ReduceOp op) {
  const Post* posts = Meet(call, Post{.data = static_cast<char*>(x.data), .elements = x.numel()});
  const int64_t begin = PartBegin(x.numel(), size(), rank());
  const int64_t end = PartBegin(x.numel(), size(), rank() + 1);
  const absl::Span<void*> parts = Pointers(size());
  for (int r = 0; r < size(); ++r) {
    CHECK_EQ(posts[r].elements, x.numel()) << "of rank " << r;
    parts[r] = posts[r].data + begin * static_cast<int64_t>(SizeOf(x.dtype));
  }
  Reduce(
      {.dtype = x.dtype, .op = op, .numel = end - begin, .contributions = parts, .outputs = parts});
  Leave(call);
}

void LocalCommunicator::DoReduceScatter(Call call, const Tensor& input, const Tensor& output) {
  const Post* posts =
      Meet(call, Post{.data = static_cast<char*>(input.data), .elements = input.numel()});
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
  Leave(call);
}

void LocalCommunicator::DoAllGather(Call call, const Tensor& input, const Tensor& output) {
  const Post* posts =
      Meet(call, Post{.data = static_cast<char*>(input.data), .elements = input.numel()});
  for (int r = 0; r < size(); ++r) {
    CHECK_EQ(posts[r].elements, input.numel()) << "of rank " << r;
    CopyBytes(posts[r].data, input.bytes(), static_cast<char*>(output.data) + r * input.bytes());
  }
  Leave(call);
}

void LocalCommunicator::DoAllToAllV(Call call, const Tensor& input, const int64_t* send_rows,
                                    const Tensor& output, const int64_t* recv_rows) {
  const int64_t row_bytes = RowBytes(input);
  const Post* posts = Meet(
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
  Leave(call);
}

void LocalCommunicator::DoBroadcast(Call call, const Tensor& x, int root) {
  const Post* posts = Meet(call, Post{.data = static_cast<char*>(x.data), .elements = x.numel()});
  CHECK_EQ(posts[root].elements, x.numel()) << "of rank " << root;
  CopyBytes(posts[root].data, x.bytes(), x.data);
  Leave(call);
}

void LocalCommunicator::DoBarrier(Call call) {
  Meet(call, Post{});
  Leave(call);
}

std::unique_ptr<Communicator> LocalCommunicator::Split(int color, const std::string& group_name) {
  const Call call = NextCall("Split");
  Post* posts = Meet(call, Post{.color = color});
  int new_rank = 0, new_size = 0, leader = -1;
  for (int r = 0; r < size(); ++r) {
    if (posts[r].color != color) continue;
    if (leader < 0) leader = r;
    if (r < rank()) ++new_rank;
    ++new_size;
  }
  auto table = leader == rank() ? std::make_shared<MeetingTable>(new_size) : nullptr;
  Leave(call);
  const Call handing = NextCall("Split");
  posts = Meet(handing, Post{.new_table = table});
  table = posts[leader].new_table;
  Leave(handing);
  return std::make_unique<LocalCommunicator>(group_name, new_rank, new_size, shared(),
                                             std::move(table));
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> CreateLocalCommunicators(int size,
                                                                    absl::Duration deadline) {
  auto table = std::make_shared<MeetingTable>(size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int r = 0; r < size; ++r) {
    communicators.push_back(std::make_unique<LocalCommunicator>(
        "world", r, size, LocalCommunicator::Shared{.world_rank = r, .deadline = deadline}, table));
  }
  return communicators;
}

}  // namespace unipool
