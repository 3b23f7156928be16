#include "tests/support/on_ranks.h"

#include <glog/logging.h>
#include <omp.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "comm/local_communicator.h"

namespace unipool::testing {
namespace {

// Shorter than the watchdog's timeout, because a communicator reports more precisely where it
// hangs.
constexpr absl::Duration kDeadline = absl::Seconds(40);
constexpr std::chrono::seconds kTimeout(60);

// Aborts the process if a rank does not return before the timeout.
class Watchdog {
 public:
  explicit Watchdog(int ranks) {
    for (int r = 0; r < ranks; ++r) running_.insert(r);
  }

  void Returned(int rank) {
    {
      std::lock_guard lock(mutex_);
      running_.erase(rank);
    }
    changed_.notify_all();
  }

  void AwaitAll() {
    std::unique_lock lock(mutex_);
    const bool all = changed_.wait_for(lock, kTimeout, [&] { return running_.empty(); });
    if (!all) {
      LOG(FATAL) << "after " << kTimeout.count()
                 << " s these ranks have not returned: " << absl::StrJoin(running_, ", ");
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<int> running_;
};

}  // namespace

void OnRanksOwned(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body) {
  std::vector<std::unique_ptr<Communicator>> communicators =
      CreateLocalCommunicators(ranks, kDeadline);
  Watchdog watchdog(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      omp_set_num_threads(1);
      body(std::move(communicators[r]));
      watchdog.Returned(r);
    });
  }
  watchdog.AwaitAll();
  for (std::thread& thread : threads) thread.join();
}

void OnRanks(int ranks, const std::function<void(Communicator&)>& body) {
  OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> comm) { body(*comm); });
}

}  // namespace unipool::testing
